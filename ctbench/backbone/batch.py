"""What goes into a backbone and what comes out.

Legend, used throughout the project: B batch, T tokens, D width, V vocabulary, H heads, P prompt tokens, C classes,
M masked (predicted) positions, L layers, F width of features.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Token ids with what is to be predicted.

    Attributes:
        input_ids: [B, T] int64.
        attention_mask: [B, T], 1 for text and 0 for padding; None: no padding anywhere.
        positions: [M] flat indices into [B * T]: masked places of an encoder, places whose next token is the target
            of a decoder.
        targets: [M] token ids to predict there.
        segments: [B, T] int64, which text of a pair a token belongs to, 0 or 1; None: nothing is a pair. Models without
            embeddings of segments read past it.
    """

    input_ids: Tensor
    attention_mask: Tensor | None = None
    positions: Tensor | None = None
    targets: Tensor | None = None
    segments: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`; on the way to a GPU it goes through pinned memory, so nobody waits for it."""
        where = torch.device(device)
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: move(tensor, where) for name, tensor in held.items() if tensor is not None})


def move(tensor: Tensor, where: torch.device) -> Tensor:
    """Return a tensor on a device, through pinned memory on the way to a GPU."""
    if tensor.device == where:
        return tensor
    if where.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(where, non_blocking=True)


@dataclass(kw_only=True)
class Output:
    """What a forward pass gives.

    Attributes:
        hidden: [B, T, D] last hidden states of the text (prompt places are cut off).
        logits: [M, V] at the batch's positions, or None.
        loss: mean cross entropy over the M positions in float32, in nats, or None without targets.
    """

    hidden: Tensor
    logits: Tensor | None = None
    loss: Tensor | None = None


@dataclass(frozen=True)
class Prompt:
    """Vectors put in front of the text; text positions stay as they are.

    Attributes:
        vectors: at the input [P, D] or [B, P, D] with D = `Backbone.width`; deep [L, P, D] or [B, L, P, D] with
            D = `Backbone.hidden_size`; as keys and values with D = 2 K, see `ctbench.backbone.keyprompt`.
        deep: whether every layer gets its own vectors.
        keys: whether a deep prompt's vectors are keys and values and not hidden states.
    """

    vectors: Tensor
    deep: bool = False
    keys: bool = False

    @property
    def length(self) -> int:
        """P, the number of places in front of the text."""
        return self.vectors.shape[-2]

    def check_shape(self, wanted: tuple[int, ...], num_rows: int) -> None:
        """Raise a ValueError unless the vectors have the shape `wanted`, once or for each of `num_rows` texts."""
        found = tuple(self.vectors.shape)
        if found not in (wanted, (num_rows, *wanted)):
            raise ValueError(f"prompt of shape {found}; wanted {wanted} or {(num_rows, *wanted)}")

    def detach(self) -> Prompt:
        """Return the prompt without its graph."""
        return Prompt(self.vectors.detach(), self.deep, self.keys)
