"""What a tuning file holds, and how it is read and written: one JSON per method under `results/tuning/`.

It records the trials of `ctbench tune`, under which protocol they were made and which settings they speak for. It holds
no test score, and it is no result: readers of results pass it by.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from ctbench.errors import BadConfig, BadResult, one_line
from ctbench.results import TUNING, slug
from ctbench.schema import STRICT, MethodRecord, ProvenanceRecord

OBJECTIVE: Literal["anytime on validation texts"] = "anytime on validation texts"


@dataclass(frozen=True, kw_only=True)
class TunedOn:
    """What the trials were run on. `language_seed` is None for a stream of real text."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    stream: str
    stream_version: int
    language_seed: int | None
    data_digest: str
    backbone: str
    backbone_digest: str
    recipe: str
    protocol: str
    changed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the grid.

    Args:
        settings: the tuned fields.
        is_default: whether they are the method's own defaults.
        objective: mean over the run seeds; None where the method's plan leaves it undefined.
        seconds: what its stages and cells took, wherever they were computed.
        keys: of its runs, one per run seed, as `ctbench run` would name them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    settings: dict[str, JsonValue]
    is_default: bool
    objective: float | None
    seconds: float
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The content of one tuning file.

    Args:
        method: the method with the settings that the first trial had, its defaults.
        file: the method's file, without the folders above its own.
        grid: the values of every tuned field; empty: nothing is tuned.
        num_points: combinations on the grid.
        num_trials: how many were asked for, the defaults included.
        seeds: run seeds of every trial; the first one also draws the sample.
        trials: in the order in which they were drawn, the defaults first.
        chosen: settings of the best trial; of equal ones the earliest, so that the defaults are kept.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema: Literal[1] = 1
    kind: Literal["tuning"] = "tuning"
    objective: Literal["anytime on validation texts"] = OBJECTIVE
    tuned_on: TunedOn
    method: MethodRecord
    file: str
    grid: dict[str, tuple[JsonValue, ...]]
    num_points: int
    num_trials: int
    seeds: tuple[int, ...]
    trials: Annotated[tuple[Trial, ...], Field(min_length=1)]
    chosen: dict[str, JsonValue]
    provenance: ProvenanceRecord

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials, best first; equal ones in the order in which they were drawn."""
        return tuple(sorted(self.trials, key=lambda trial: -1.0 if trial.objective is None else -trial.objective))

    @property
    def edges(self) -> dict[str, JsonValue]:
        """Chosen values at an end of a range of three numbers or more: a better one may lie beyond."""
        return {
            name: self.chosen[name]
            for name, values in self.grid.items()
            if len(values) > 2 and all(_is_number(value) for value in values)
            if self.chosen[name] in (min(values), max(values))  # type: ignore[type-var]  # all are numbers
        }

    @property
    def advice(self) -> str:
        """One line: which defaults the method's file should have."""
        name, defaults = self.method.name, self.trials[0]
        if not self.grid:
            return f"{name} has no hyper-parameters to tune: nothing to choose"
        new = [f"{key} = {value!r}" for key, value in self.chosen.items() if value != defaults.settings[key]]
        if not new:
            return f"keep the defaults of {self.file}: no trial is better"
        best = self.ranked[0]
        assert best.objective is not None and defaults.objective is not None
        gain = 100 * (best.objective - defaults.objective)
        return f"set {', '.join(new)} in {self.file} (+{gain:.1f} points of the objective)"

    def record(self) -> dict[str, Any]:
        """Return the content of the file as plain dicts, lists, numbers and strings."""
        record: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return record


@cache
def _adapter() -> TypeAdapter[Tuning]:
    return TypeAdapter(Tuning)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def tuning_from(record: Mapping[str, Any]) -> Tuning:
    """Return the `Tuning` that a record of plain values describes, after validating exactly what would be written.

    Raises:
        BadResult: one line that says what is wrong with it.
    """
    return _parse(json.dumps(record).encode(), "record")


def read_tuning(path: str | Path) -> Tuning:
    """Read one tuning file.

    Raises:
        BadResult: one line that says what is wrong with it.
    """
    try:
        return _parse(Path(path).read_bytes(), one_line(path))
    except OSError as error:
        raise BadResult(f"{one_line(path)}: cannot be read ({error.strerror})") from None


def _parse(data: bytes, name: str) -> Tuning:
    try:
        return _adapter().validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise BadResult(one_line(f"{name}: no tuning file: {where}: {first['msg']}")) from None


def write_tuning(tuning: Tuning, folder: str | Path) -> tuple[Path, Literal["new", "same", "replaced"]]:
    """Write to `folder`/tuning/stream/backbone/method.json, atomically; a file with the same trials stays.

    Raises:
        BadConfig: the folder cannot be written.
    """
    names = (tuning.tuned_on.stream, tuning.tuned_on.backbone, tuning.method.name)
    path = Path(folder).joinpath(TUNING, *map(slug, names[:2]), f"{slug(names[2])}.json")
    status: Literal["new", "replaced"] = "replaced" if path.exists() else "new"
    if status == "replaced" and _is_same(path, tuning):
        return path, "same"
    scratch = path.with_name(f".{path.stem}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(_adapter().dump_json(tuning, indent=1) + b"\n")
        scratch.replace(path)
    except OSError as error:
        raise BadConfig(f"results folder '{one_line(folder)}' cannot be written ({error.strerror})") from None
    finally:
        scratch.unlink(missing_ok=True)
    return path, status


def _is_same(path: Path, tuning: Tuning) -> bool:
    try:
        before, after = read_tuning(path).record(), tuning.record()
    except BadResult:
        return False
    return all(before[key] == after[key] for key in after if key != "provenance")
