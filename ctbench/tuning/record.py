"""The tuning file: one JSON per method under `results/tuning/`.

It records the trials of `ctbench tune`, their protocol and the chosen settings. It holds no test score and is not a result:
readers of results skip it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from ctbench.errors import BadResult, one_line
from ctbench.results.format import read_small
from ctbench.results.provenance import STRICT, ProvenanceRecord
from ctbench.results.schema import MethodRecord

OBJECTIVE: Literal["anytime on validation texts"] = "anytime on validation texts"


@dataclass(frozen=True, kw_only=True)
class TunedOn:
    """The protocol of the trials.

    Args:
        language_seed: None for a stream of real text.
        base_weights: SHA-256 of the weights of a base that was computed here, which differ between kinds of processors;
            empty if `backbone_digest` tells the weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stream: str
    stream_version: int
    language_seed: int | None
    data_digest: str
    backbone: str
    backbone_digest: str
    base_weights: str = ""
    recipe: str
    protocol: str
    changed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the grid.

    Args:
        settings: the tuned fields.
        is_default: whether these are the defaults of the method.
        objective: mean over the run seeds; None if the plan of the method leaves it undefined, or if the trial failed.
        standard_error: of the objective, from the number of validation texts and, with two or more run seeds, the spread
            over them; None if there is no objective, and in files of before.
        seconds: computing time of its stages and cells.
        keys: keys of its runs, one per run seed.
        failures: a line for each node that failed; a trial with failures is never chosen.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    settings: dict[str, JsonValue]
    is_default: bool
    objective: float | None
    standard_error: float | None = None
    seconds: float
    keys: tuple[str, ...]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The content of one tuning file.

    Args:
        method: the method with its defaults, the settings of the first trial.
        file: file of the method, with the name of its folder.
        fixed: fields that the caller gave one value for all trials, the defaults among them; they are not on the grid.
        grid: values of every tuned field; empty if nothing is tuned.
        num_points: number of combinations on the grid.
        num_trials: number of trials that the caller asked for, the defaults included.
        seeds: run seeds of every trial; the first one also draws the sample.
        trials: in the order in which they were drawn, the defaults first.
        chosen: settings of the best trial; of equal trials the earliest, so that ties keep the defaults.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema: Literal[1] = 1
    kind: Literal["tuning"] = "tuning"
    objective: Literal["anytime on validation texts"] = OBJECTIVE
    tuned_on: TunedOn
    method: MethodRecord
    file: str
    fixed: dict[str, JsonValue] = field(default_factory=dict)
    grid: dict[str, tuple[JsonValue, ...]]
    num_points: int
    num_trials: int
    seeds: tuple[int, ...]
    trials: Annotated[tuple[Trial, ...], Field(min_length=1)]
    chosen: dict[str, JsonValue]
    provenance: ProvenanceRecord

    def __repr__(self) -> str:
        return f"Tuning({self.advice})"

    def _repr_html_(self) -> str:
        from ctbench.reporting.notebook import table_html
        from ctbench.tuning.table import trial_table

        return table_html(trial_table(self))

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials, best first; equal trials in the order in which they were drawn."""
        return tuple(sorted(self.trials, key=lambda trial: 1.0 if trial.objective is None else -trial.objective))

    @property
    def num_equal(self) -> int:
        """Number of trials within one standard error of the best, itself included."""
        return sum(is_equal(self.ranked[0], trial) for trial in self.trials)

    @property
    def untried(self) -> dict[str, tuple[JsonValue, ...]]:
        """Declared values that no trial had."""
        tried = {name: [trial.settings[name] for trial in self.trials] for name in self.grid}
        missing = {
            name: tuple(value for value in values if value not in tried[name]) for name, values in self.grid.items()
        }
        return {name: values for name, values in missing.items() if values}

    @property
    def edges(self) -> dict[str, JsonValue]:
        """Chosen values at an end of their range (three numbers or more): a better value may lie outside."""
        return {
            name: self.chosen[name]
            for name, values in self.grid.items()
            if len(values) > 2 and all(_is_number(value) for value in values)
            if self.chosen[name] in (min(values), max(values))  # type: ignore[type-var]  # all are numbers
        }

    @property
    def under(self) -> str:
        """The fixed fields with their values, in words; empty without any."""
        return ", ".join(f"{name} = {value!r}" for name, value in self.fixed.items())

    @property
    def advice(self) -> str:
        """One line: the defaults that the method's file should have, and under which fixed settings."""
        return f"with {self.under} fixed: {self._advice}" if self.fixed else self._advice

    @property
    def _advice(self) -> str:
        name, defaults = self.method.name, self.trials[0]
        if defaults.failures:
            return f"{name}: the trial of the defaults failed, so nothing can be compared with it"
        if not self.grid:
            return f"{name} has no hyper-parameters to tune: nothing to choose"
        new = [f"{key} = {value!r}" for key, value in self.chosen.items() if value != defaults.settings[key]]
        if not new:
            return f"keep the defaults of {self.file}: no trial is better"
        best = self.ranked[0]
        if best.objective is None or defaults.objective is None:
            return f"{name}: the trial of the defaults has no objective, so nothing can be compared with it"
        gain = f"+{100 * (best.objective - defaults.objective):.1f} points of the objective"
        if best.standard_error is not None and is_equal(best, defaults):
            error = f"{100 * best.standard_error:.1f}"
            return (
                f"keep the defaults of {self.file}: the best trial is within its standard error ({gain}, error {error})"
            )
        return f"set {', '.join(new)} in {self.file} ({gain})"

    def record(self) -> dict[str, Any]:
        """Return the content of the file as dicts, lists, numbers and strings."""
        record: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return record

    def text(self) -> bytes:
        """Return the content of the file."""
        return _adapter().dump_json(self, indent=1) + b"\n"


@cache
def _adapter() -> TypeAdapter[Tuning]:
    return TypeAdapter(Tuning)


def is_equal(best: Trial, other: Trial) -> bool:
    """Tell whether a trial is within one standard error of the best one, of the same method or of another.

    Examples:
        >>> best, other = (
        ...     Trial(settings={}, is_default=True, objective=score, standard_error=0.005, seconds=1.0, keys=("a",))
        ...     for score in (0.830, 0.826)
        ... )
        >>> is_equal(best, other)
        True
    """
    if best.objective is None or other.objective is None:
        return best is other
    return best.objective - other.objective <= (best.standard_error or 0.0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def tuning_from(record: Mapping[str, Any]) -> Tuning:
    """Return the `Tuning` of a record of plain values, validated like a file.

    Raises:
        BadResult: the content is not that of a tuning file; the message is one line.
    """
    return _parse(json.dumps(record).encode(), "record")


def read_tuning(path: str | Path) -> Tuning:
    """Read one tuning file.

    Raises:
        BadResult: the content is not that of a tuning file; the message is one line.
    """
    return _parse(read_small(path), one_line(path))


def _parse(data: bytes, name: str) -> Tuning:
    try:
        tuning = _adapter().validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise BadResult(one_line(f"{name}: not a tuning file: {where}: {first['msg']}")) from None
    wrong = _contradiction(tuning)
    if wrong:
        raise BadResult(one_line(f"{name}: corrupt: {wrong}"))
    return tuning


def _contradiction(tuning: Tuning) -> str:
    """Return in what a file contradicts itself, or nothing."""
    for number, trial in enumerate(tuning.trials, 1):
        if trial.settings.keys() != tuning.grid.keys():
            return f"trial {number} does not set the fields of the grid"
    if tuning.chosen != tuning.ranked[0].settings:
        return "what was chosen is not the best trial"
    return ""
