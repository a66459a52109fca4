"""HAT: every domain learns which units it uses, and later domains leave those alone.

Serra, Suris, Miron, Karatzoglou, 2018, arXiv:1801.01423 (hard attention to the task). The units are the neurons of
bottlenecks behind attention and feed-forward network, as `adapters` has them; the LM is frozen. Domain t has a mask
over all units, which is learned with them, grows hard along the stage and is pushed to be sparse where no earlier
domain is. Weights of a unit move as far as no earlier domain uses it:

    a = sigmoid(s e_t),  s from 1 / sharpness to sharpness along the stage;  m = max over i < t of sigmoid(sharpness e_i)
    A(h) = h + scale * W_up (a * gelu(W_down h + b_down)),   W_up = 0 at the start
    L = L_lm(theta_0, A; x) + sparsity_weight * sum a (1 - m) / sum (1 - m)        change of a unit's weights *= 1 - m

A cell uses the mask of its task's domain in the LM of its row, from that domain's stage on, so what later stages did
to the domain shows; before, there is no mask and the cell is that of the untouched LM. The domain of a task must be
known.

Differs from the paper, told from memory: it masks all layers of a network that is trained from scratch; units of a
pre-trained LM cannot be masked without harm, bottlenecks that start as the identity can (ContinualLM does so too); a
weight of its lies between two masked units and is free if one of them is, one of ours belongs to a single unit; 1 - m
scales the gradient there, here the update too, for AdamW undoes a constant factor of a gradient; the gradient of e is
that of sigmoid(e), which the paper's compensation comes to but for a constant; s grows along the stage and not along
each epoch; e moves `gain` times as far as other weights, for the recipe has one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench import BASE, Method, Plan, Traits, hyper

if TYPE_CHECKING:
    from ctbench import Backbone, Batch, Stage, Stream

LIMIT = 6.0
"""Embeddings stay in [-6, 6], as in the paper."""


class HAT(Method):
    """Bottlenecks learn under a mask per domain; units of earlier domains stay."""

    paper: ClassVar[str] = "arXiv:1801.01423"
    traits: ClassVar[Traits] = Traits(needs_domain=True, grows=True)
    needs_parts: ClassVar[bool] = True

    reduction: int = hyper(2, low=1, tune=(1, 2, 8))
    """Width of the LM over width of a bottleneck, whose neurons all domains share; one neuron at least."""
    scale: float = hyper(16.0, low=0.0, tune=(4.0, 16.0, 64.0))
    """What the bottlenecks give is multiplied by it; with 0 nothing is learned."""
    sparsity_weight: float = hyper(0.1, low=0.0, tune=(0.03, 0.1, 0.75))
    """Weight of the share of free units that a domain takes; 0 lets it take all."""
    sharpness: float = hyper(400.0, low=1.0)
    """Largest s; masks of large ones are 0 or 1."""
    gain: float = hyper(10.0, low=0.1, high=1000.0, tune=(3.0, 10.0, 30.0))
    """Embeddings of the domains move this many times as far as other weights do at the same learning rate."""
    cell_trains: str = hyper("all", choices=("all", "added"))
    """What a cell fine-tunes beside its head: the whole LM with its bottlenecks, or the bottlenecks alone."""

    def plan(self, stream: Stream) -> Plan:
        count = len(stream.names)
        return Plan(
            stages=tuple((name,) for name in stream.names),
            parents=tuple(range(count)),
            cells=tuple(tuple(row if task < row else BASE for task in range(count)) for row in range(count + 1)),
        )

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        backbone.requires_grad_(False)
        places = backbone.parts("attention_out") + backbone.parts("ffn_out")
        masked = Masked(stream.names)
        for _, projection in places:
            unit = Bottleneck(self, backbone.hidden_size, num_domains=len(stream.names))
            projection.register_forward_hook(unit.after)
            masked.append(unit)
        backbone.added["hat"] = masked
        return backbone

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        masked = _masked(stage.backbone)
        share = stage.step / max(1, stage.num_steps - 1)
        low = 1.0 / self.sharpness
        number = masked.select(stage.domains[0], low + (self.sharpness - low) * share)
        terms = super().loss(stage, batch)
        if self.sparsity_weight:
            terms["sparsity"] = self.sparsity_weight * sparsity(
                torch.cat([unit.mask() for unit in masked.each()]),
                torch.cat([unit.used(number) for unit in masked.each()]),
            )
        return terms

    @torch.no_grad()
    def after_backward(self, stage: Stage) -> None:
        before: dict[str, Tensor] = {}
        for name, weight, free in _scaled(stage):
            before[name] = weight.detach().clone()
            if weight.grad is not None:
                weight.grad.mul_(free)
        stage.memory["before"] = before

    @torch.no_grad()
    def after_step(self, stage: Stage) -> None:
        before = stage.memory.pop("before")
        for name, weight, free in _scaled(stage):
            weight.copy_(torch.lerp(before[name], weight, free.expand_as(weight)))
        for unit in _masked(stage.backbone).each():
            for embedding in unit.embeddings:
                embedding.clamp_(-LIMIT / self.gain, LIMIT / self.gain)

    @torch.no_grad()
    def end(self, stage: Stage) -> None:
        masked = _masked(stage.backbone)
        number = masked.select(stage.domains[0], self.sharpness)
        stage.note(
            mask_mean=float(torch.cat([unit.mask() for unit in masked.each()]).mean()),
            used_mean=float(torch.cat([unit.used(number + 1) for unit in masked.each()]).mean()),
        )

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(self.cell_trains == "all")
        masked = _masked(backbone)
        masked.select(task, self.sharpness)
        for unit in masked.each():
            unit.requires_grad_(True)
            unit.embeddings.requires_grad_(False)
        return backbone


class Bottleneck(nn.Module):
    """A bottleneck of U units with a skip connection, and the embeddings [U] of all domains."""

    def __init__(self, method: HAT, width: int, *, num_domains: int) -> None:
        super().__init__()
        self.method = method
        self.selected: tuple[int, float] | None = None
        num_units = max(1, width // method.reduction)
        self.down = nn.Linear(width, num_units)
        self.up = nn.Linear(num_units, width, bias=False)
        nn.init.zeros_(self.up.weight)
        starts = (torch.randn(num_units) / method.gain for _ in range(num_domains))
        self.embeddings = nn.ParameterList([nn.Parameter(start) for start in starts])

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the adapted hidden states [B, T, D]; without a domain the states themselves."""
        if self.selected is None:
            return hidden
        units = F.gelu(self.down(hidden))
        change: Tensor = self.up(units * self.mask().to(units.dtype))
        return hidden + self.method.scale * change

    def after(self, _projection: nn.Module, _args: Any, output: Tensor) -> Tensor:
        """Adapt what a projection gives."""
        adapted: Tensor = self(output)
        return adapted

    def mask(self) -> Tensor:
        """Return the mask [U] of the selected domain."""
        assert self.selected is not None
        number, sharpness = self.selected
        return hard_sigmoid(self.method.gain * self.embeddings[number], sharpness)

    def used(self, number: int) -> Tensor:
        """Return how far the domains before a number, from 0, use each unit, [U] in [0, 1]."""
        found = [torch.zeros_like(self.embeddings[0])]
        found += [torch.sigmoid(self.method.sharpness * self.method.gain * each) for each in self.embeddings[:number]]
        return torch.stack(found).amax(0).detach()


class Masked(nn.ModuleList):
    """The bottlenecks of all places."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names

    def each(self) -> list[Bottleneck]:
        """Return the bottlenecks."""
        return [cast(Bottleneck, unit) for unit in self]

    def select(self, domain: str, sharpness: float) -> int:
        """Let the mask of a domain hold from now on, and return the domain's number, from 0."""
        number = self.names.index(domain)
        for unit in self.each():
            unit.selected = number, sharpness
        return number


def hard_sigmoid(embedding: Tensor, sharpness: float) -> Tensor:
    """Return sigmoid(sharpness * embedding) with the gradient of sigmoid(embedding)."""
    soft = torch.sigmoid(embedding)
    return torch.sigmoid(sharpness * embedding).detach() + (soft - soft.detach())


def sparsity(mask: Tensor, used: Tensor) -> Tensor:
    """Return the share of the free units that a mask takes, in [0, 1]; `used` is that of earlier domains."""
    free = 1.0 - used
    return (mask * free).sum() / free.sum().clamp(min=1e-6)


def _masked(backbone: Backbone) -> Masked:
    return cast(Masked, backbone.added["hat"])


def _scaled(stage: Stage) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the weights of all units, each with the factor of its changes; nothing in a first stage."""
    masked = _masked(stage.backbone)
    number = masked.names.index(stage.domains[0])
    if not number:
        return
    for place, unit in enumerate(masked.each()):
        free = 1.0 - unit.used(number)
        yield f"{place}.down", unit.down.weight, free[:, None]
        yield f"{place}.bias", unit.down.bias, free
        yield f"{place}.up", unit.up.weight, free[None, :]
