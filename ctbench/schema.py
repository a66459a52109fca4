"""What a result file holds: frozen dataclasses, checked by pydantic. `ctbench.results` reads and writes them.

A `Result` is the JSON of one run, key by key. Scores are in [0, 1] in full precision; what is missing is null in the
file and NaN in the arrays. Rows are numbered 0..T (row 0 is the untouched LM), stages 1..T. Nothing in a result names a
machine, a person or an absolute path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, JsonValue, PlainSerializer, PlainValidator

from ctbench.metrics import Array, all_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA: Literal[1] = 1
"""Version of the file format; an older or newer file is named and skipped."""

BASE = "BASE"
"""What a plan calls the LM before any stage."""

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _to_array(rows: object) -> Array:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError("a list of lists of numbers or null is needed")
    values = [value for row in rows for value in row]
    if any(isinstance(v, bool | str | list | dict) for v in values) or len({len(row) for row in rows}) > 1:
        raise ValueError("rows of equal length that hold only numbers or null are needed")
    array = np.array(rows, dtype=np.float64)
    array.setflags(write=False)
    return array


def _to_lists(array: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in array.tolist()]


JsonArray = Annotated[NDArray[np.float64], PlainValidator(_to_array), PlainSerializer(_to_lists)]
"""A table of numbers: null in the file is NaN in memory."""


@dataclass(frozen=True, kw_only=True)
class StreamRecord:
    """The stream as the run saw it, its domains in the order of the run."""

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


@dataclass(frozen=True, kw_only=True)
class TraitsRecord:
    """What a method needs and leaves behind, printed beside every score."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stores_text: bool = False
    needs_domain: bool = False
    grows: bool = False


@dataclass(frozen=True, kw_only=True)
class MethodRecord:
    """The method with all its settings."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    version: int
    digest: str
    settings: dict[str, JsonValue] = field(default_factory=dict)
    registered: bool = True
    traits: TraitsRecord = field(default_factory=TraitsRecord)
    summary: str = ""
    paper: str | None = None


@dataclass(frozen=True, kw_only=True)
class BackboneRecord:
    """The untouched LM: its name, its folder name in the results, and the digest of its weights."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    slug: str
    digest: str
    objective: str
    parameters: int


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
        parents: what each stage started from: BASE or the index of another stage, from 0.
        cells: [T+1][T] of BASE, the number of a stage (from 1), or None where there is no cell.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stages: tuple[tuple[str, ...], ...]
    parents: tuple[Literal["BASE"] | int, ...]
    cells: tuple[tuple[Literal["BASE"] | int | None, ...], ...]


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """One cell under one fine-tuning seed. `source` is the key of the node that was fine-tuned."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    row: int
    domain: str
    finetune_seed: int
    source: str
    key: str
    score: float | None
    metrics: dict[str, float | None] = field(default_factory=dict)
    validation_score: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class ControlRecord:
    """The base trained on general text for as long as the stages together, fine-tuned on every task."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    scores: tuple[float | None, ...]
    lm_loss: tuple[float | None, ...]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One stage of pre-training: its losses (null: not finite) at `steps`, and what it cost."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stage: int
    domains: tuple[str, ...]
    key: str
    steps: tuple[int, ...] = ()
    losses: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    notes: dict[str, JsonValue] = field(default_factory=dict)
    tokens: int
    forward_tokens: int
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    added_parameters: int = 0
    trained_parameters: int = 0
    stored_bytes: int = 0
    weights_digest: str = ""
    changed: bool = True


@dataclass(frozen=True, kw_only=True)
class CostRecord:
    """What the stages of the run cost together; `cell_seconds` is the fine-tuning on top of it.

    `seconds` is wall time, which depends on what else the machine does; `cpu_seconds` is the time of its cores.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    tokens: int
    forward_tokens: int
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    added_parameters: int = 0
    stored_bytes: int = 0
    cell_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something odd that a reader should know; it never changes a number."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ProvenanceRecord:
    """With what the numbers were made."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    ctbench: str
    python: str = ""
    torch: str = ""
    transformers: str = ""
    platform: str = ""
    processor: str = ""
    num_cores: int | None = None
    git: str | None = None
    date: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One run: the content of one result file.

    Args:
        protocol: equal for runs under the same protocol (data, recipe, backbone, precision).
        changed: settings given by hand (`--set`), by their key: "pretrain.tokens", "method.agree_weight".
        not_comparable: why the run stands off the leaderboard; empty means that it does not.
        matrix: scores [T+1, T], mean over fine-tuning seeds.
        lm_loss: held-out LM loss [T+1, T] in nats per predicted token.
        metrics: by the names of `ctbench.metrics.METRICS`; None where undefined.
        path: where the file lies, when it was read from one; not part of the file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema: Literal[1] = 1
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    stream: StreamRecord
    method: MethodRecord
    backbone: BackboneRecord
    recipe: RecipeRecord
    seed: int
    order: int = 0
    precision: str
    protocol: str
    changed: dict[str, JsonValue] = field(default_factory=dict)
    not_comparable: tuple[str, ...] = ()
    plan: PlanRecord
    matrix: JsonArray
    cells: tuple[CellRecord, ...] = ()
    lm_loss: JsonArray
    control: ControlRecord | None = None
    metrics: dict[str, float | None]
    stages: tuple[StageRecord, ...] = ()
    cost: CostRecord
    findings: tuple[Finding, ...] = ()
    provenance: ProvenanceRecord
    path: Path | None = field(default=None, init=False, repr=False)

    @property
    def num_tasks(self) -> int:
        """T, the number of domains."""
        return len(self.stream.domains)

    @cached_property
    def computed_metrics(self) -> dict[str, float | None]:
        """The metrics that follow from the matrix, whatever the file says."""
        return all_metrics(self.matrix)

    @cached_property
    def seed_scores(self) -> dict[int, Array]:
        """The matrix [T+1, T] of each fine-tuning seed, from the cells; NaN where there is none."""
        columns = {domain: column for column, domain in enumerate(self.stream.domains)}
        tables: dict[int, list[list[float]]] = {}
        for cell in self.cells:
            table = tables.get(cell.finetune_seed)
            if table is None:
                table = tables[cell.finetune_seed] = [[math.nan] * len(columns) for _ in range(len(columns) + 1)]
            if cell.score is not None:
                table[cell.row][columns[cell.domain]] = cell.score
        return {seed: np.array(tables[seed]) for seed in sorted(tables)}

    def plot(self, *, kind: Literal["matrix", "anytime", "loss", "training"] = "matrix") -> Figure:
        """Return a matplotlib figure of this run; `figure.savefig("x.png")` writes it.

        Example:
            >>> from ctbench.results import read_results
            >>> figure = read_results("results").results[0].plot()
        """
        from ctbench.report.plots import make_figure

        return make_figure([self], kind=kind)
