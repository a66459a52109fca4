"""What the oracles share: a condition for each domain, of which the domain's name selects one.

In the stage of domain k the LM learns under condition c_k. Under none, or in half of the updates under that of a past
domain once there is any, it must agree with its teacher, the LM before the stage:

    L = L_lm(x | c_k) + agree_weight * KL(teacher(x | c) || LM(x | c)),  c none or that of a past domain
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from ctbench.masking import first_rows
from ctbench.mixer import agreement

if TYPE_CHECKING:
    from ctbench import Backbone, Batch, Stage
    from ctbench.backbone.wordmap import Condition

NAME = "conditions"


class Settings(Protocol):
    """What the loss is told by its method."""

    @property
    def agree_weight(self) -> float:
        """Weight of the agreement with the teacher; 0 leaves it out."""

    @property
    def random_fraction(self) -> float:
        """Share of each batch's rows that are run under another condition too, in [0, 1], one row at least."""


class DomainTable(nn.Module):
    """A condition per domain; a domain that no stage has trained on has none.

    Attributes:
        selected: name of the domain whose condition is the LM's own.
        is_trained: [K] whether a stage has trained on the domain.
    """

    is_trained: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.selected = names[0]
        self.register_buffer("is_trained", torch.zeros(len(names)))

    def make(self, index: int) -> Condition:
        """Return the condition of the domain with this number, from 0."""
        raise NotImplementedError

    def of(self, domain: str) -> Condition | None:
        """Return the condition of a domain."""
        index = self.names.index(domain)
        return self.make(index) if self.is_trained[index] else None

    def past(self, domain: str) -> list[str]:
        """Return the other domains that have a condition."""
        return [name for name, trained in zip(self.names, self.is_trained, strict=True) if trained and name != domain]

    def forward(self, _backbone: Backbone, _batch: Batch) -> Condition | None:
        """Return the condition of the selected domain, for every text the same."""
        return self.of(self.selected)


def insert(backbone: Backbone, table: DomainTable) -> Backbone:
    """Make a table what the LM asks for its condition."""
    backbone.added[NAME] = table
    backbone.prompter = NAME
    return backbone


def table_of(backbone: Backbone) -> DomainTable:
    """Return the table of an LM."""
    return cast(DomainTable, backbone.added[NAME])


def begin(stage: Stage) -> None:
    """Give the stage's domain its condition."""
    (domain,) = stage.domains
    table = table_of(stage.backbone)
    table.is_trained[table.names.index(domain)] = 1.0


def terms(method: Settings, stage: Stage, batch: Batch) -> dict[str, Tensor]:
    """Return the terms of the loss."""
    (domain,) = stage.domains
    table = table_of(stage.backbone)
    own = stage.backbone(batch, prompt=table.of(domain)).loss
    assert own is not None
    if not method.agree_weight:
        return {"lm": own}
    generator, past = stage.generator("other domains"), table.past(domain)
    other = past[generator.integers(len(past))] if past and generator.random() < 0.5 else None
    some = first_rows(batch, max(1, round(method.random_fraction * len(batch.input_ids))))
    student = stage.backbone(some, prompt=other and table.of(other))
    with torch.no_grad():
        teacher = stage.teacher(some, prompt=other and table_of(stage.teacher).of(other))
    return {"lm": own, "agree": method.agree_weight * agreement(student, teacher)}


def adapt(backbone: Backbone, task: str) -> Backbone:
    """Select a task's condition; the LM trains, the table does not."""
    backbone.requires_grad_(True)
    table = table_of(backbone)
    table.requires_grad_(False)
    table.selected = task
    return backbone
