"""What the store keeps of a computed node beside its weights: one frozen dataclass per kind of node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from ctbench.training.log import TrainingRecord

RECORD_SCHEMA: Final = 2
"""Version of the layout below; a record of another version is not used, and its node is computed again."""

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Work:
    """On what a node was computed: `plan` judges by it how long others will take.

    Args:
        model: what the user called the backbone.
        precision: "fp32" or "bf16".
        device: kind of device ("cpu", "cuda"); `device_name`: the GPU's name, "cpu" without one.
        compiled: whether layers were compiled.
        epochs: of a cell; None otherwise.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    model: str
    precision: str
    device: str = "cpu"
    device_name: str = "cpu"
    compiled: bool = False
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredBase:
    """The LM of row 0 where it was trained here: an embedded model, or a checkpoint after a step of its warm-up.

    Args:
        training: what the loop reports.
        weights_digest: SHA-256 of all weights; `parameters`: their number.
        work: on what it was computed.
        lineage: of the base that it goes on from, as in `StoredStage`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["base"] = "base"
    training: TrainingRecord
    weights_digest: str
    parameters: int
    work: Work
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredStage:
    """The LM after a stage.

    Args:
        training: what the loop reports.
        weights_digest: SHA-256 of all weights; `changed`: whether the stage changed any.
        added_parameters: parameters beside those of the untouched LM.
        stored_bytes: size of the memory and of added buffers.
        work: on what it was computed.
        lineage: SHA-256 of the weights of each base and stage that it comes from, by key (empty: an older record).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["stage"] = "stage"
    training: TrainingRecord
    weights_digest: str
    changed: bool
    added_parameters: int
    stored_bytes: int
    work: Work
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredLoss:
    """Held-out LM losses by domain, in nats per predicted token (None: not finite), and facts about the untouched LM.

    Args:
        losses: by domain; `errors`: their standard errors, `num_predicted`: the tokens predicted (None: an older record).
        effects: figures of what a method added to the LM, means over the domains of its stage (None: not finite).
        bytes_per_token: mean bytes of a predicted token, of general text.
        tokens: tokens read.
        flops: floating-point operations of products of matrices (None: an older record).
        seconds: wall time.
        parameters: of the untouched LM; `objective`: "mlm" or "clm"; `notes`: what a reader must know about it.
        weights_digest: SHA-256 of the untouched LM's weights.
        work: on what it was computed; `lineage`: as in `StoredStage`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["loss"] = "loss"
    losses: Mapping[str, float | None]
    errors: Mapping[str, float | None] | None = None
    num_predicted: Mapping[str, int] | None = None
    effects: Mapping[str, float | None]
    tokens: int
    seconds: float
    parameters: int
    objective: str
    notes: tuple[str, ...]
    weights_digest: str
    work: Work
    flops: float | None = None
    bytes_per_token: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredCell:
    """The scores of a cell.

    Args:
        metrics: of the test set by name; `validation`: of the validation set, None without one.
        majority: accuracy of always naming the most frequent class; `baseline`: its other scores too, by name.
        num_test: number of test texts (None: an older record).
        tokens: tokens trained on.
        flops: floating-point operations of products of matrices, scoring included (None: an older record).
        seconds: wall time; `peak_memory_bytes`: peak memory of the process.
        work: on what it was computed; `lineage`: as in `StoredStage`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["cell"] = "cell"
    metrics: Mapping[str, float | None]
    validation: Mapping[str, float | None] | None
    majority: float | None
    baseline: Mapping[str, float] | None = None
    num_test: int | None = None
    tokens: int
    flops: float | None = None
    seconds: float
    peak_memory_bytes: int
    work: Work
    lineage: Mapping[str, str] = field(default_factory=dict)


Stored = StoredBase | StoredStage | StoredLoss | StoredCell


def to_json(record: Stored) -> dict[str, Any]:
    """Return a record as plain JSON."""
    plain: dict[str, Any] = _adapter().dump_python(record, mode="json")
    return plain


def from_json(plain: object) -> Stored:
    """Read what `to_json` returned.

    Raises:
        ValueError: the record does not fit its dataclass.
    """
    return _adapter().validate_python(plain)


@cache
def _adapter() -> TypeAdapter[Stored]:
    return TypeAdapter(Annotated[Stored, Field(discriminator="kind")])


def seconds_of(record: Stored) -> float:
    """Return the wall time that a node took."""
    return record.training.seconds if isinstance(record, StoredBase | StoredStage) else record.seconds
