"""Adapters: train small bottlenecks between the frozen layers.

Houlsby, Giurgiu, Jastrzebski, Morrone, de Laroussilhe, Gesmundo, Attariyan, Gelly, 2019, arXiv:1902.00751. Behind the
output projections of attention and feed-forward network stands a bottleneck with a skip connection. Only the
bottlenecks are pre-trained; every weight of the LM stays as it was, so what it knew can be reached again:

    A(h) = h + scale * (W_up gelu(W_down h + b_down) + b_up),   W_up = 0 and b_up = 0 at the start

Differs from the paper: it adapts a model to one labelled task, here the LM loss trains one set of adapters through the
stream (or one per domain); layer norms stay frozen in stages; the start is the identity exactly, not nearly; it uses a
higher learning rate for adapters alone, here the recipe's holds for every method and `scale` makes up for it; in cells
everything trains unless `cell_trains` says otherwise; a bottleneck stands before the dropout of its projection and not
behind it, and its down-projection starts with a deviation of 0.1, ten times the paper's. Written here and not taken
from peft, which has no such layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ctbench import Method, Plan, Traits, hyper, one_per_domain, sequential

if TYPE_CHECKING:
    from ctbench import Backbone, Stream


class Adapters(Method):
    """Bottlenecks behind attention and feed-forward network learn, the LM is frozen."""

    paper: ClassVar[str] = "arXiv:1902.00751"
    needs_parts: ClassVar[bool] = True

    reduction: int = hyper(8, low=1, tune=(2, 8, 32))
    """Width of the LM over width of the bottleneck; the bottleneck has one place at least."""
    scale: float = hyper(1.0, low=0.0, tune=(1.0, 4.0, 16.0, 64.0))
    """What the bottlenecks give is multiplied by it; under Adam it acts as a higher learning rate would."""
    per_domain: bool = hyper(False)
    """One set of adapters per domain, each from the untouched LM, instead of one through the stream; needs the domain."""
    cell_trains: str = hyper("all", choices=("all", "added"))
    """What a cell fine-tunes beside its head: the whole LM with its adapters, or the adapters alone."""

    @property
    def configured_traits(self) -> Traits:
        return Traits(needs_domain=self.per_domain, grows=self.per_domain)

    def plan(self, stream: Stream) -> Plan:
        return one_per_domain(stream.names) if self.per_domain else sequential(stream.names)

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        backbone.requires_grad_(False)
        places = backbone.parts("attention_out") + backbone.parts("ffn_out")
        adapters = [Adapter(backbone.hidden_size, self.reduction, self.scale) for _ in places]
        for (_, projection), adapter in zip(places, adapters, strict=True):
            projection.register_forward_hook(adapter.after)
        backbone.added["adapters"] = nn.ModuleList(adapters)
        return backbone

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(self.cell_trains == "all")
        backbone.added.requires_grad_(True)
        return backbone


class Adapter(nn.Module):
    """One bottleneck with a skip connection, the identity at the start.

    It hangs on its projection as a hook and does not wrap it, so the LM's weights keep their names and a saved stage
    holds the adapters alone.
    """

    def __init__(self, width: int, reduction: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        bottleneck = max(1, width // reduction)
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the adapted hidden states [B, T, D]."""
        change: Tensor = self.up(F.gelu(self.down(hidden)))
        return hidden + self.scale * change

    def after(self, _projection: nn.Module, _args: Any, output: Tensor) -> Tensor:
        """Adapt what a projection gives."""
        adapted: Tensor = self(output)
        return adapted
