"""Block expansion: train new layers, copies of their neighbours, between the frozen ones.

Wu, Gan, Ge, Lu, Wang, Feng, Shan, Luo, 2024, arXiv:2401.02415 (LLaMA Pro). The layers are divided into as many groups
as there are new blocks; behind each group stands a copy of its last layer, whose output projections start at zero, so
that the expanded LM begins as the untouched one. Only the new blocks learn; what the LM knew stays in the frozen
ones:

    f'(x) = f(x) at the start;   L = L_lm(theta_0, blocks; x)

In a post-norm LM (BERT, RoBERTa) a layer with zeroed projections still norms its input twice and is not the identity.
There the copy keeps its projections and is let in by a gate per channel, which learns with it:

    h <- h + g * (block(h) - h),   g = 0 at the start

The gain may come from having few weights learn, and not from new ones. `blocks=existing` is the control for it: as
many layers of the LM itself learn, those that would be copied, and nothing is added.

Differs from the paper: it expands a decoder once and trains it on one corpus, here the same blocks go on through the
stream; it has pre-norm decoders only, the gate is ours; the recipe's learning rate holds for new blocks as for all
weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ctbench import Method, copy_layer, hyper

if TYPE_CHECKING:
    from ctbench import Backbone, Stream


class Expand(Method):
    """New blocks between the frozen layers learn."""

    paper: ClassVar[str] = "arXiv:2401.02415"
    needs_parts: ClassVar[bool] = True

    num_blocks: int = hyper(2, low=1, tune=(1, 2))
    """Blocks that learn; an LM of fewer layers gets one for each."""
    blocks: str = hyper("new", choices=("new", "existing"))
    """Whether new blocks learn, or, as a control, as many layers of the LM itself."""
    cell_trains: str = hyper("all", choices=("all", "blocks"))
    """What a cell fine-tunes beside its head: the whole LM with its blocks, or the blocks alone."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        backbone.requires_grad_(False)
        numbers = places(backbone.num_layers, self.num_blocks)
        if self.blocks == "new":
            blocks = nn.ModuleList([_new_block(backbone, number) for number in numbers])
            for number, block in zip(numbers, blocks, strict=True):
                backbone.layers[number].register_forward_hook(cast(Block, block).after, with_kwargs=True)
            backbone.added["blocks"] = blocks
        return self._train_blocks(backbone)

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(self.cell_trains == "all")
        return self._train_blocks(backbone)

    def _train_blocks(self, backbone: Backbone) -> Backbone:
        if self.blocks == "new":
            backbone.added.requires_grad_(True)
        else:
            for number in places(backbone.num_layers, self.num_blocks):
                backbone.layers[number].requires_grad_(True)
        return backbone


class Block(nn.Module):
    """A layer that runs behind another one.

    It hangs on that layer as a hook and does not stand in the LM's own list, so the LM's weights keep their names and a
    saved stage holds the new blocks alone.

    Args:
        layer: the copy.
        gate: [D], how far the copy's output is let in; None lets it in whole.
    """

    def __init__(self, layer: nn.Module, gate: nn.Parameter | None) -> None:
        super().__init__()
        self.layer = layer
        self.gate: nn.Parameter | None
        self.register_parameter("gate", gate)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the hidden states [B, T, D] after the block."""
        output = self.layer(hidden, *args, **kwargs)
        after: Tensor = output[0] if isinstance(output, tuple) else output
        return after if self.gate is None else hidden + self.gate * (after - hidden)

    def after(self, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Run behind a layer, with that layer's masks and positions."""
        if isinstance(output, tuple):
            return (self(output[0], *args[1:], **kwargs), *output[1:])
        return self(output, *args[1:], **kwargs)


def places(num_layers: int, num_blocks: int) -> list[int]:
    """Return the numbers of the layers that new blocks are copies of and stand behind: the last one of each group."""
    num_groups = min(num_blocks, num_layers)
    return [(group + 1) * num_layers // num_groups - 1 for group in range(num_groups)]


def _new_block(backbone: Backbone, number: int) -> Block:
    """Return a copy of a layer that begins as the identity."""
    backbone.parts("ffn_out")  # refuses a family that is not known
    layer, family = copy_layer(backbone, number), backbone.family
    assert family is not None
    if family.is_post_norm:
        return Block(layer, nn.Parameter(torch.zeros(backbone.hidden_size)))
    for path in (*family.paths("attention_out"), *family.paths("ffn_out")):
        for parameter in layer.get_submodule(path).parameters():
            nn.init.zeros_(parameter)
    return Block(layer, None)
