"""Measure how fast this machine is in about ten seconds, so that `ctbench plan` can tell times before the first run.

A stage and a cell of the engine are computed on random text, at the shape nearest to the model that was asked about, and
their speeds are kept in the home folder as those of `ctbench bench` are. What comes later replaces them: a bench measures
longer, and nodes of the store are believed before either.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctbench.engine.compute import Executor
from ctbench.engine.estimate import work_of
from ctbench.engine.expand import expand
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.engine.node import Node
from ctbench.engine.records import StoredCell, StoredStage
from ctbench.engine.speeds import layer_parameters, write_speeds
from ctbench.engine.store import Store, home
from ctbench.speed.cells import CellWork, write_cells
from ctbench.speed.shapes import SHAPES, Shape

SWITCH: Final = "CTBENCH_CALIBRATION"
"""Environment variable: "off" leaves machines unmeasured."""
STAGE_SECONDS: Final = 4.0
"""How long a stage is trained for at most, behind its first updates."""
MAX_TOKENS: Final = 10_000_000
USUAL_EXAMPLES: Final = 200
"""Training examples that a cell of unknown size is taken to have."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How much work is measured at a shape: blocks of a batch, examples and epochs of a cell."""

    batch: int
    examples: int
    epochs: int


SAMPLES: Final = {"tiny": Sample(batch=16, examples=200, epochs=3), "22m": Sample(batch=4, examples=32, epochs=1)}
"""By shape: seconds of work each, start included."""


class _Enough(BaseException):
    """The stage was trained for long enough; no error, so that nothing takes it for one."""


def is_wanted() -> bool:
    """Return whether machines may be measured without being asked to: unless `CTBENCH_CALIBRATION` is "off"."""
    return os.environ.get(SWITCH, "").lower() not in ("off", "0", "no", "false")


def calibrate(unknown: Sequence[Node], *, say: Callable[[str], None]) -> None:
    """Measure the speed of this machine for nodes of unknown speed, and keep it for `plan`.

    Args:
        unknown: a node of each model and precision whose speed is not known.
        say: called with a line about what is measured.

    Raises:
        CTBenchError: the engine fails on this machine.
    """
    shapes: dict[tuple[str, str], tuple[Shape, Node]] = {}
    for node in unknown:
        model, precision, _ = work_of(node)
        shape = nearest_shape(layer_parameters(model))
        shapes.setdefault((shape.name, precision), (shape, node))
    for (_, precision), (shape, node) in shapes.items():
        say(
            f"measuring this machine for about ten seconds, once (shape {shape.name}, {precision}; {SWITCH}=off leaves it out)"
        )
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(shape, node, Path(folder))
        with contextlib.suppress(OSError):  # a home that cannot be written is measured again
            write_speeds(home(), rows)


def nearest_shape(size: int | None) -> Shape:
    """Return the shape whose layers are nearest in size, of those that take seconds.

    Examples:
        >>> nearest_shape(None).name, nearest_shape(100_000_000).name
        ('tiny', '22m')
    """
    known = [SHAPES[name] for name in SAMPLES]
    if size is None:
        return known[0]
    return min(known, key=lambda shape: abs(math.log(size / shape.layer_parameters)))


def measure(shape: Shape, node: Node, folder: Path) -> list[dict[str, Any]]:
    """Return the speeds of a stage and of a cell, as `write_speeds` takes them.

    Args:
        shape: the model.
        node: whose precision and batch are measured.
        folder: an empty folder for model, data and store.
    """
    _, precision, device = work_of(node)
    sample = SAMPLES[shape.name]
    work = CellWork(shape=shape, examples=sample.examples, epochs=sample.epochs)
    write_cells(work, folder / "work", precision=precision, count=1)
    settings = {
        "pretrain.tokens": MAX_TOKENS,
        "pretrain.batch": sample.batch,
        "pretrain.length": min(shape.length, 64),
        "pretrain.precision": precision,
    }
    places = {name: str(folder / "work" / name) for name in ("plain.py", "stream.toml", "model")}
    run = expand(
        read_inputs(Job(method=places["plain.py"], stream=places["stream.toml"], model=places["model"], set=settings)),
        0,
    )
    executor = Executor(Store(folder / "store"), folder / "corpora")
    about = {"device": device, "layer_parameters": shape.layer_parameters, "precision": precision}
    stage = about | {"kind": "stage", "threads": 1, "seconds": _seconds_per_token(executor, run.stages[0])}
    seconds = _seconds_of_cell(executor, next(cell for (source, *_), cell in run.cells.items() if source == 0))
    cell = about | {"kind": "cell", "threads": 1, "examples": USUAL_EXAMPLES}
    return [stage, cell | {"seconds": seconds / (work.examples * work.epochs)}]


def _seconds_per_token(executor: Executor, stage: Node) -> float:
    """Train a stage for a few seconds and return the time of a token, the first reported updates left out."""
    marks: list[tuple[float, int]] = []

    def report(step: int, _num_steps: int, _loss: float) -> None:
        marks.append((time.perf_counter(), step))
        if len(marks) > 1 and marks[-1][0] - marks[0][0] > STAGE_SECONDS:
            raise _Enough

    with contextlib.suppress(_Enough):
        executor.compute(stage.spec(), report)
    recipe = stage.identity.recipe
    tokens = int(recipe["batch"]) * int(recipe["length"])
    if len(marks) < 2:
        record = executor.store.read(stage.key)
        assert isinstance(record, StoredStage)
        return record.training.seconds / record.training.tokens
    (first, before), (last, after) = marks[0], marks[-1]
    return (last - first) / ((after - before) * tokens)


def _seconds_of_cell(executor: Executor, cell: Node) -> float:
    executor.compute(cell.spec())
    record = executor.store.read(cell.key)
    assert isinstance(record, StoredCell)
    return record.seconds
