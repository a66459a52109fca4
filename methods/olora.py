"""O-LoRA: learn a new low-rank update per stage, orthogonal to the frozen ones of the past.

Wang, Chen, Ge, Xia, Bao, Zheng, Zhang, Gui, Huang, 2023, arXiv:2310.14152. Every linear map of the layers has one
pair (A_i, B_i) per domain. In stage t only the pair of that stage learns; the LM and the earlier pairs are frozen,
and a penalty pushes the rows of A_t, the directions that the new update reads, away from those of the past:

    W' = W + (alpha / r) sum_{i<=t} B_i A_i,   B_i = 0 at the start
    L = L_lm(theta; x) + weight * mean over i < t, layers and pairs of rows |cos(A_i[m], A_t[n])|

Differs from the paper: its penalty sums |A_i A_t^T| over entries and layers, so it grows with rank, depth and past
stages and shrinks with the size of A; ours is a mean of cosines in [0, 1], so that the weight means the same for
every LM and stage; its released code also has a penalty on the norm of the new pair, which we leave to weight decay;
all linear maps are updated, not the queries' and values' alone; it tunes on labelled tasks, here the LM loss trains;
pairs are not merged into the weights; in cells everything trains but the pairs of stages to come, unless
`cell_trains` says otherwise. Written here and not taken from peft, whose adapters of one layer know nothing of each
other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench import Method, Traits, hyper
from ctbench.linear import linear_maps

if TYPE_CHECKING:
    from ctbench import Backbone, Batch, Stage, Stream


class OLoRA(Method):
    """A low-rank update per domain learns, kept orthogonal to the earlier ones; the LM is frozen."""

    paper: ClassVar[str] = "arXiv:2310.14152"
    traits: ClassVar[Traits] = Traits(grows=True)

    rank: int = hyper(16, low=1, tune=(4, 16, 64))
    """Rank r of the update of a domain."""
    alpha: float = hyper(64.0, low=0.0, tune=(16.0, 64.0, 256.0))
    """The updates are scaled by alpha over rank; with 0 nothing is learned."""
    weight: float = hyper(1.0, low=0.0, tune=(0.1, 1.0, 10.0))
    """Weight of the overlap with past updates; 0 is a new update per stage without the penalty."""
    cell_trains: str = hyper("all", choices=("all", "added"))
    """What a cell fine-tunes beside its head: the whole LM with its updates, or the updates alone."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        backbone.requires_grad_(False)
        updates = Updates(stream.names)
        for linear in linear_maps(backbone):
            update = Update(linear.shape, self.rank, num_pairs=len(stream.names), scale=self.alpha / self.rank)
            linear.module.register_forward_hook(update.after)
            updates.append(update)
        backbone.added["updates"] = updates
        return backbone

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        updates = _updates(stage.backbone)
        number = updates.learn(stage.domains[0])
        terms = super().loss(stage, batch)
        if number and self.weight:
            terms["overlap"] = self.weight * updates.overlap(number)
        return terms

    def end(self, stage: Stage) -> None:
        updates = _updates(stage.backbone)
        if number := updates.learn(stage.domains[0]):
            stage.note(overlap=updates.overlap(number).item())

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(self.cell_trains == "all")
        for update in _updates(backbone).each():
            for down, up in zip(update.down, update.up, strict=True):
                is_learned = bool(up.any())
                down.requires_grad_(is_learned)
                up.requires_grad_(is_learned)
        return backbone

    def bake(self, backbone: Backbone, text: Batch | None) -> Backbone:
        for linear, update in zip(linear_maps(backbone), _updates(backbone).each(), strict=True):
            change = sum(up @ down for down, up in zip(update.down, update.up, strict=True))
            linear.oriented(linear.module.weight).data.add_(update.scale * change)
        del backbone.added["updates"]
        return backbone


class Update(nn.Module):
    """The pairs of one linear map [O, I]: `down` holds A [r, I] and `up` holds B [O, r] of every domain.

    It hangs on its map as a hook and does not wrap it, so the LM's weights keep their names and a saved stage holds the
    pairs alone.
    """

    def __init__(self, shape: tuple[int, int], rank: int, *, num_pairs: int, scale: float) -> None:
        super().__init__()
        num_out, num_in = shape
        self.scale = scale
        self.learning: int | None = None
        self.down = nn.ParameterList([nn.Parameter(torch.empty(rank, num_in)) for _ in range(num_pairs)])
        self.up = nn.ParameterList([nn.Parameter(torch.zeros(num_out, rank)) for _ in range(num_pairs)])
        for down in self.down:
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the pairs add to the map's output; all get gradients unless one is learning."""
        down, up = (torch.cat(self._held(pairs), dim) for pairs, dim in ((self.down, 0), (self.up, 1)))
        return self.scale * F.linear(F.linear(x, down), up)

    def after(self, _map: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add the updates to what a map gives."""
        change: Tensor = self(args[0])
        return output + change

    def _held(self, pairs: nn.ParameterList) -> list[Tensor]:
        learning = self.learning
        return [pair if learning in (None, number) else pair.detach() for number, pair in enumerate(pairs)]


class Updates(nn.ModuleList):
    """The updates of all linear maps."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names

    def each(self) -> list[Update]:
        """Return the updates."""
        return [cast(Update, update) for update in self]

    def learn(self, domain: str) -> int:
        """Let the pairs of a domain learn and no others, and return the domain's number, from 0."""
        number = self.names.index(domain)
        for update in self.each():
            update.learning = number
        return number

    def overlap(self, number: int) -> Tensor:
        """Return the mean overlap of the pairs of a domain, its number from 1, with those of the domains before."""
        return torch.stack(
            [
                overlap(torch.cat([past.detach() for past in update.down[:number]]), update.down[number])
                for update in self.each()
            ]
        ).mean()


def overlap(past: Tensor, new: Tensor) -> Tensor:
    """Return the mean absolute cosine, in [0, 1], of rows `past` [n, I] with rows `new` [r, I], in float32."""
    with torch.autocast(new.device.type, enabled=False):
        one, other = (F.normalize(rows.float(), dim=-1) for rows in (past, new))
        return (one @ other.T).abs().mean()


def _updates(backbone: Backbone) -> Updates:
    return cast(Updates, backbone.added["updates"])
