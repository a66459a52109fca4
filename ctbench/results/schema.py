"""The schema of result files: frozen dataclasses, checked by pydantic. `ctbench.results.files` reads and writes them.

A `Result` is the JSON of one run, key by key. Scores are in [0, 1] in full precision; missing numbers are null in the
file and NaN in the arrays. Rows are numbered 0..T (row 0 is the untouched LM), stages 1..T. Nothing in a result names a
machine, a person or an absolute path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from ctbench.results.arrays import JsonArray
from ctbench.results.cells import scores_by_seed
from ctbench.results.failures import FailureRecord
from ctbench.results.loss_metrics import all_loss_metrics
from ctbench.results.matrix import Array
from ctbench.results.metrics import all_metrics
from ctbench.results.provenance import STRICT, ProvenanceRecord
from ctbench.results.setup import PlanRecord, RecipeRecord, StreamRecord

if TYPE_CHECKING:
    import pandas as pd

SCHEMA: Literal[2] = 2
"""Version of the file format. `ctbench.results.upgrade` reads version 1; a newer file is named and skipped."""


@dataclass(frozen=True, kw_only=True)
class TraitsRecord:
    """Needs and side effects of a method, shown next to its scores."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stores_text: bool = False
    needs_domain: bool = False
    grows: bool = False
    reads_general_text: bool = False


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
    """The untouched LM.

    Args:
        name: what the user called it; `slug`: its folder in the results.
        digest: what it is made from: the key of its node, or the digest of a checkpoint's files.
        weights_digest: SHA-256 of its weights: another processor may make another base from the same text. Empty in
            results of schema 1, whose base is unknown.
        objective: "mlm" or "clm".
        parameters: number of its parameters.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    slug: str
    digest: str
    weights_digest: str = ""
    objective: str
    parameters: int


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
    flops: float | None = None


@dataclass(frozen=True, kw_only=True)
class ControlRecord:
    """The base trained on general text for as long as the stages together, fine-tuned on every task."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    scores: tuple[float | None, ...]
    lm_loss: tuple[float | None, ...]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One stage of pre-training: its losses (null: not finite) and learning rates at `steps`, and its cost.

    `probes` are held-out losses of past domains and general text, by name, after `probe_steps` updates.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stage: int
    domains: tuple[str, ...]
    key: str
    steps: tuple[int, ...] = ()
    losses: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    probe_steps: tuple[int, ...] = ()
    probes: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    notes: dict[str, JsonValue] = field(default_factory=dict)
    tokens: int
    forward_tokens: int
    flops: float | None = None
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
    """Total cost of the stages of a run; `cell_seconds` and `cell_flops` are the additional cost of fine-tuning.

    `flops` are floating-point operations of products of matrices, forward and backward, teachers and samples included;
    null in older files and where layers were compiled.

    `seconds` is wall time, which depends on the load of the machine; `cpu_seconds` is CPU time.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    tokens: int
    forward_tokens: int
    flops: float | None = None
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    added_parameters: int = 0
    stored_bytes: int = 0
    cell_seconds: float | None = None
    cell_flops: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An anomaly that a reader should know; it never changes a number."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    code: str
    message: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One run: the content of one result file.

    Args:
        protocol: equal for runs under the same protocol (data, recipe, backbone, precision).
        changed: overridden settings (`--set`), by key: "pretrain.tokens", "method.agree_weight".
        not_comparable: reasons that keep the run off the leaderboard; empty if there are none.
        matrix: scores [T+1, T], mean over fine-tuning seeds.
        lm_loss: held-out LM loss [T+1, T] in nats per predicted token; `lm_loss_error`: its standard errors.
        general_loss: held-out LM loss of general text [T+1], empty without such text; `general_bits`: in bits per byte.
        metrics: by the names of `ctbench.results.metrics.METRICS`; None where undefined.
        failures: nodes that failed; a run with failures is incomplete and on no leaderboard.
        path: path of the file that the result was read from; not part of the file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema: Literal[2] = 2
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
    lm_loss_error: JsonArray | None = None
    general_loss: tuple[float | None, ...] = ()
    general_bits: tuple[float | None, ...] = ()
    control: ControlRecord | None = None
    metrics: dict[str, float | None]
    stages: tuple[StageRecord, ...] = ()
    cost: CostRecord
    findings: tuple[Finding, ...] = ()
    failures: tuple[FailureRecord, ...] = ()
    provenance: ProvenanceRecord
    path: Path | None = field(default=None, init=False, repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether no node of the run failed."""
        return not self.failures

    @property
    def num_tasks(self) -> int:
        """T, the number of domains."""
        return len(self.stream.domains)

    @cached_property
    def computed_metrics(self) -> dict[str, float | None]:
        """The metrics computed from the matrix, independent of those stored in the file."""
        return all_metrics(self.matrix, num_stages=len(self.plan.stages))

    @cached_property
    def loss_metrics(self) -> dict[str, float | None]:
        """The metrics of the LM losses, by the names of `ctbench.results.loss_metrics.LOSS_METRICS`."""
        return all_loss_metrics(self.lm_loss, num_stages=len(self.plan.stages))

    @cached_property
    def seed_scores(self) -> dict[int, Array]:
        """The matrix [T+1, T] of each fine-tuning seed that all cells share; NaN for missing cells."""
        return scores_by_seed(self)

    def frame(self) -> pd.DataFrame:
        """Return the matrix as a pandas DataFrame: a row for each stage (0 is the base), a column for each domain."""
        import pandas as pd

        return pd.DataFrame(self.matrix, columns=list(self.stream.domains)).rename_axis("row")

    def __repr__(self) -> str:
        name, stream, metric = self.method.name, self.stream.name, self.metrics.get("anytime")
        score = "" if metric is None else f", anytime {100 * metric:.1f} %"
        state = "" if self.is_complete else ", incomplete"
        return f"Result({name} on {stream}, {self.backbone.name}, seed {self.seed}{score}{state}, key {self.key[:12]})"

    def _repr_html_(self) -> str:
        """Show the matrix in percent, below one line about the run."""
        table = (100 * self.frame()).to_html(float_format=lambda value: f"{value:.1f}", na_rep="–", border=0)
        return f"<p>{escape(repr(self))}</p>{table}"
