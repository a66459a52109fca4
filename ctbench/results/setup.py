"""What a run worked on, as its result file holds it: the stream, the recipe and the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from ctbench.results.provenance import STRICT

CORRELATIONS: Final = ("pearson", "spearman")
"""Metrics whose scores are in [-1, 1]; all others are shares in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class StreamRecord:
    """The stream as the run saw it, its domains in the order of the run.

    By domain: `majority` is the accuracy of always naming the most frequent class, or to expect of guessing where there are
    choices, `baseline` its score in the task's own metric, `tasks` the kind of the task (null: all are classifications),
    `num_test` counts test texts, `num_predicted` the tokens that the LM loss is a mean over.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    version: int
    kind: Literal["domain", "temporal"]
    summary: str = ""
    domains: Annotated[tuple[str, ...], Field(min_length=1)]
    digest: str
    registered: bool = True
    metric: dict[str, str]
    majority: dict[str, float | None]
    bayes: dict[str, float] | None = None
    baseline: dict[str, float | None] | None = None
    num_test: dict[str, int] | None = None
    num_predicted: dict[str, int] | None = None
    tasks: dict[str, str] | None = None

    def lowest(self, domain: str) -> float:
        """Return the lowest score that the metric of a domain can have: -1 of a correlation, 0 of a share."""
        return -1.0 if self.metric.get(domain) in CORRELATIONS else 0.0


@dataclass(frozen=True, kw_only=True)
class RecipeRecord:
    """How the LM was pre-trained and fine-tuned."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    base: dict[str, JsonValue] | None = None
    pretrain: dict[str, JsonValue]
    finetune: dict[str, JsonValue]


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """Which stages there were, what each started from, and which stage's LM each cell fine-tuned.

    Args:
        stages: the domains of each stage.
        parents: the stage that each stage started from; stages are numbered from 1, 0 is the untouched LM.
        cells: [T+1][T] numbers of stages; 0 is the untouched LM, None means that there is no cell.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stages: tuple[tuple[str, ...], ...]
    parents: tuple[int, ...]
    cells: tuple[tuple[int | None, ...], ...]
