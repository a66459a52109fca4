"""Prompts as keys and values: vectors that a layer's attention reads in front of the text, without being hidden states.

Prefix tuning (Li, Liang, 2021, arXiv:2101.00190). The prompt's places run through the LM like those of any prompt; in
every layer what the projections make of them is replaced by the given keys and values, so any attention will do and no
normalisation bounds their size. Legend: B batch, T tokens, P prompt tokens, K width of all keys of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctbench.backbone.batch import Prompt
from ctbench.backbone.families import require_family
from ctbench.backbone.wordmap import Condition
from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench.backbone import Backbone


def key_width(backbone: Backbone) -> int:
    """Return K, the width of all keys of a layer: number of its key heads times the width of one.

    Raises:
        BadConfig: the family's module names are not known, or its projections do not give keys and values alone.
    """
    config = backbone.model.config
    family = require_family(config.model_type, purpose="a prompt of keys and values")
    # DeBERTa projects distances with the same weights as words.
    if family.fused == "heads" or getattr(config, "relative_attention", False):
        raise BadConfig(
            f"the keys and values of '{backbone.name}' ({config.model_type}) cannot be told apart from what else its "
            "projections make; use a prompt of hidden states"
        )
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or backbone.hidden_size // heads
    return int(width * (getattr(config, "num_key_value_heads", None) or heads))


@contextmanager
def keys_and_values(backbone: Backbone, prompt: Condition | None) -> Iterator[None]:
    """Let attention read a prompt of keys and values while the context lasts; for any other there is nothing to do.

    Args:
        backbone: the LM.
        prompt: with vectors [B, L, P, 2 K], or [L, P, 2 K] for all texts: keys and values, one behind the other.
    """
    handles = []
    try:
        if isinstance(prompt, Prompt) and prompt.keys:
            parts = [module for _, module in backbone.parts("attention_in")]
            per_layer = len(parts) // backbone.num_layers
            for index, module in enumerate(parts):
                layer, place = divmod(index, per_layer)
                if per_layer == 1 or place > 0:
                    hook = partial(_put, prompt.vectors[..., layer, :, :], place if per_layer > 1 else None)
                    handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _put(given: Tensor, place: int | None, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    """Replace keys (place 1), values (place 2) or both behind the queries (None) in the first P places."""
    given = given.to(output.dtype).expand(len(output), *given.shape[-2:])
    num_prompt, width = given.shape[1], given.shape[2] // 2
    if place is None:
        front = torch.cat([output[:, :num_prompt, : -2 * width], given], dim=-1)
    else:
        front = given[..., :width] if place == 1 else given[..., width:]
    return torch.cat([front, output[:, num_prompt:]], dim=1)
