"""Run `ctbench bench`: measure, return one JSON document, and keep the speeds that `ctbench plan` uses."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from ctbench.engine.launchers.capacity import MAX_PER_GPU, num_cores
from ctbench.engine.speeds import write_speeds
from ctbench.engine.store import OTHER_HOME
from ctbench.errors import BadConfig, UnknownName, unwritable
from ctbench.machine.device import device
from ctbench.machine.files import write_whole
from ctbench.machine.precision import has_fast_bf16
from ctbench.plugins.find import find_plugin
from ctbench.results.files import OTHER_FILE, check_place
from ctbench.speed import machine
from ctbench.speed.cells import CellWork, measure_cells
from ctbench.speed.protocol import measure_protocol
from ctbench.speed.rounds import Ask
from ctbench.speed.shapes import Shape, find_shape
from ctbench.speed.side import side_processes
from ctbench.speed.training import measure_training, plan_sides

SCHEMA: Final = 2
PRECISIONS: Final = ("fp32", "bf16")
KINDS: Final = ("pretrain", "overhead", "cells", "protocol")
TINY_CELL: Final = CellWork(shape=find_shape("tiny"))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to measure.

    Args:
        shapes: models to pre-train; cells always use the tiny shape.
        methods: names or paths of methods whose cost to measure, at the first shape.
        what: some of "pretrain" (engine and Trainer), "overhead" (engine and bare loop), "cells" and "protocol".
        precisions: precisions of all sides; empty for fp32, and bf16 on hardware with bf16 units.
        threads: CPU threads of each side; None for all cores.
        pairs: number of rounds.
        seconds: timed wall time of a side in a round.
        compiled: also measure a Trainer with a compiled model and, on a GPU, the engine with compiled layers.
        cell: the work of a cell.
        stream: the stream of the measurement "protocol".
    """

    shapes: tuple[Shape, ...] = (find_shape("tiny"), find_shape("22m"))
    methods: tuple[str, ...] = ()
    what: tuple[str, ...] = KINDS
    precisions: tuple[str, ...] = ()
    threads: int | None = None
    pairs: int = 5
    seconds: float = 4.0
    compiled: bool = False
    cell: CellWork = TINY_CELL
    stream: str = "domain"

    def __post_init__(self) -> None:
        for name in self.what:
            if name not in KINDS:
                raise UnknownName("kind of bench", name, [*KINDS, "all"])
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UnknownName("precision", precision, PRECISIONS)
        for method in self.methods:
            find_plugin("method", method)
        shapes = tuple(shape.name for shape in self.shapes)
        for name, given in (("shape", shapes), ("method", self.methods), ("precision", self.precisions)):
            if len(set(given)) < len(given):
                raise BadConfig(f"bench was given a {name} twice: {', '.join(given)}")
        if not self.shapes and {"pretrain", "overhead"} & {*self.what}:
            raise BadConfig("bench has no shape to pre-train; name one with --shape")
        if not self.what:
            raise BadConfig(f"bench has nothing to measure; some of {', '.join(KINDS)} are wanted")
        if self.pairs < 1 or not 0 < self.seconds < math.inf:
            raise BadConfig(
                f"pairs is {self.pairs} and seconds is {self.seconds:g}; bench wants at least one pair and some seconds"
            )
        if self.threads is not None and not 1 <= self.threads <= num_cores():
            raise BadConfig(f"threads is {self.threads}; this machine has cores for 1 to {num_cores()}")


def bench(question: Question, *, say: Callable[[str], None], ask: Ask | None = None) -> dict[str, Any]:
    """Measure and return one JSON document.

    Args:
        question: what to measure.
        say: called with a line of text about the progress.
        ask: runs one request; None starts a process for each side.

    Returns:
        `machine` (hardware, versions, peaks), `training` (one entry a shape), `cells` and `protocol` or None, `skipped`.
    """
    precisions, skipped = _choose_precisions(question)
    threads = question.threads or num_cores()
    say("measuring the machine")
    peaks = machine.measure(list(precisions), sorted({1, threads}), seconds=min(0.5, question.seconds))
    document: dict[str, Any] = {
        "kind": "bench",
        "schema": SCHEMA,
        "ctbench": version("ctbench"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe() | peaks,
        "threads": threads,
        "skipped": skipped,
        "training": [],
        "cells": None,
        "protocol": None,
    }
    if {"pretrain", "overhead"} & set(question.what):
        with contextlib.nullcontext(ask) if ask is not None else _asking_processes() as asked:
            document["training"] = _train(question, precisions, threads, peaks["matmul"], asked, say)
    with tempfile.TemporaryDirectory() as folder:
        if "cells" in question.what:
            document["cells"] = _cells(question, Path(folder, "cells"), precisions, threads, say)
        if "protocol" in question.what:
            document["protocol"] = measure_protocol(
                question.stream,
                Path(folder, "protocol"),
                precisions=precisions,
                threads=threads,
                say=lambda line: say(f"protocol: {line}"),
            )
    return document


@contextlib.contextmanager
def _asking_processes() -> Iterator[Ask]:
    """Return a function that passes a request to the process of its side; the processes stop when the block ends."""
    with side_processes() as processes:
        yield lambda loop, request: processes["trainer" if loop == "trainer" else "engine"].ask(request)


def _cells(
    question: Question, folder: Path, precisions: Sequence[str], threads: int, say: Callable[[str], None]
) -> dict[str, Any]:
    return measure_cells(
        question.cell,
        folder,
        precisions=precisions,
        workers=min(MAX_PER_GPU, threads) if device().type == "cuda" else threads,
        pairs=question.pairs,
        say=lambda line: say(f"cells: {line}"),
    )


def _choose_precisions(question: Question) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    if question.precisions:
        return question.precisions, []
    if has_fast_bf16():
        return PRECISIONS, []
    why = "this processor has no units for bf16, so it would be several times slower than fp32; --precision asks for it"
    return ("fp32",), [{"what": "bf16", "why": why}]


def _train(
    question: Question,
    precisions: Sequence[str],
    threads: int,
    peaks: Sequence[dict[str, Any]],
    ask: Ask,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    found = []
    for number, shape in enumerate(question.shapes):
        sides = plan_sides(
            shape,
            precisions=precisions,
            threads=threads,
            methods=question.methods if "pretrain" in question.what and number == 0 else (),
            loops=_loops(question),
            compiled=compiled_loops(question, device().type),
        )
        found.append(
            measure_training(
                sides,
                ask,
                peaks=peaks,
                pairs=question.pairs,
                seconds=question.seconds,
                say=lambda line, name=shape.name: say(f"{name}: {line}"),  # type: ignore[misc]  # bound early
            )
        )
    return found


def _loops(question: Question) -> tuple[str, ...]:
    loops = {"engine": True, "bare": "overhead" in question.what, "trainer": "pretrain" in question.what}
    return tuple(loop for loop, is_asked in loops.items() if is_asked)


def compiled_loops(question: Question, device: str) -> tuple[str, ...]:
    """Return the loops that are measured compiled too; on a CPU the engine compiles nothing."""
    if not question.compiled:
        return ()
    return ("engine", "trainer") if device == "cuda" else ("trainer",)


def speeds_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the speeds that `plan` uses: seconds per token of a stage, and per example and epoch of a cell."""
    where = document["machine"]["device"]
    rows = [
        {
            "kind": "stage",
            "device": where,
            "layer_parameters": training["layer_parameters"],
            "precision": side["precision"],
            "threads": training["threads"],
            "seconds": 1.0 / side["tokens_per_second"]["median"],
        }
        for training in document["training"]
        for side in training["sides"]
        if side["loop"] == "engine" and side["method"] is None and not side["compiled"]
    ]
    cells = document["cells"]
    if cells is not None:
        rows += [
            {
                "kind": "cell",
                "device": where,
                "layer_parameters": cells["layer_parameters"],
                "precision": side["precision"],
                "threads": 1,
                "examples": cells["examples"],
                "seconds": side["seconds_per_cell"]["median"] / (cells["examples"] * cells["epochs"]),
            }
            for side in cells["sides"]
            if side["workers"] == 1
        ]
    return rows


def keep(document: dict[str, Any], *, home: Path, path: Path | None) -> None:
    """Write the document to `path`, if one is given, and keep the speeds for `plan` under `home`.

    Raises:
        BadConfig: a file cannot be written.
    """
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise BadConfig(unwritable(f"'{path}'", error, OTHER_FILE)) from None
    try:
        write_speeds(home, speeds_of(document))
    except OSError as error:
        raise BadConfig(unwritable(_speeds_in(home), error, OTHER_HOME)) from None


def check_home(home: Path) -> None:
    """Check that the speeds for `plan` can be kept, before minutes of measuring.

    Raises:
        BadConfig: they cannot be kept.
    """
    check_place(home, what=_speeds_in(home), otherwise=OTHER_HOME)


def _speeds_in(home: Path) -> str:
    return f"the file of speeds in '{home}', for `plan`,"
