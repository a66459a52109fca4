"""All of `ctbench bench`: what is measured, the document that comes out, and the speeds that `plan` uses."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from ctbench.bench import machine
from ctbench.bench.cells import CellWork, measure_cells
from ctbench.bench.protocol import measure_protocol
from ctbench.bench.rounds import Ask
from ctbench.bench.shapes import Shape, find_shape
from ctbench.bench.side import side_processes
from ctbench.bench.training import measure_training, plan_sides
from ctbench.device import device
from ctbench.errors import BadConfig, UnknownName, one_line
from ctbench.estimate import write_speeds
from ctbench.plugins import find_plugin
from ctbench.precision import has_fast_bf16
from ctbench.results import check_writable
from ctbench.workers import MAX_PER_GPU, num_cores

SCHEMA: Final = 2
PRECISIONS: Final = ("fp32", "bf16")
KINDS: Final = ("pretrain", "overhead", "cells", "protocol")
TINY_CELL: Final = CellWork(shape=find_shape("tiny"))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to measure.

    Args:
        shapes: of the pre-training; cells are always the tiny one's.
        methods: names or paths, to see what they cost; measured at the first shape.
        what: some of "pretrain" (beside a Trainer), "overhead" (beside a bare loop), "cells" and "protocol".
        precisions: of both sides; empty for fp32, and bf16 where the hardware has it.
        threads: of each side; None for all cores.
        pairs: rounds.
        seconds: timed wall time of a side in a round.
        compiled: measure a Trainer with a compiled model too, and on a GPU the engine with compiled layers.
        cell: what a cell is made of.
        cells_per_worker: cells that a worker does in a round.
        stream: whose whole run is held against the same protocol with a Trainer.
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
    cells_per_worker: int = 3
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
            raise BadConfig("bench wants at least one pair and some seconds")
        if self.threads is not None and not 1 <= self.threads <= num_cores():
            raise BadConfig(f"threads is {self.threads}; this machine has cores for 1 to {num_cores()}")


def bench(question: Question, *, say: Callable[[str], None], ask: Ask | None = None) -> dict[str, Any]:
    """Measure and return one plain document.

    Args:
        question: what to measure.
        say: told how far it is.
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
        if ask is not None:
            document["training"] = _train(question, precisions, threads, peaks["matmul"], ask, say)
        else:
            with side_processes() as processes:
                asked: Ask = lambda loop, request: processes[  # noqa: E731  # one expression, used once
                    "trainer" if loop == "trainer" else "engine"
                ].ask(request)
                document["training"] = _train(question, precisions, threads, peaks["matmul"], asked, say)
    if "cells" in question.what:
        with tempfile.TemporaryDirectory() as folder:
            document["cells"] = measure_cells(
                question.cell,
                Path(folder),
                precisions=precisions,
                workers=min(MAX_PER_GPU, threads) if device().type == "cuda" else threads,
                per_worker=question.cells_per_worker,
                pairs=question.pairs,
                say=lambda line: say(f"cells: {line}"),
            )
    if "protocol" in question.what:
        with tempfile.TemporaryDirectory() as folder:
            document["protocol"] = measure_protocol(
                question.stream,
                Path(folder),
                precisions=precisions,
                threads=threads,
                say=lambda line: say(f"protocol: {line}"),
            )
    return document


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
            with_bare="overhead" in question.what,
            with_trainer="pretrain" in question.what,
            compiled=question.compiled,
            has_gpu=device().type == "cuda",
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


def speeds_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what `plan` can use of a document: seconds per token of a stage, per example and epoch of a cell."""
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


def check_output(path: Path | None) -> None:
    """Make sure, before anything is measured, that a file can be written.

    Raises:
        BadConfig: if it cannot.
    """
    if path is not None:
        check_writable(path.parent)
        if path.is_dir():
            raise BadConfig(f"'{one_line(path)}' is a folder, not a file to write")


def keep(document: dict[str, Any], *, home: Path, path: Path | None) -> None:
    """Write the document to `path` if there is one, and leave the speeds where `plan` finds them.

    Raises:
        BadConfig: a file cannot be written.
    """
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"'{one_line(path)}' cannot be written ({error.strerror})") from None
    try:
        write_speeds(home, speeds_of(document))
    except OSError as error:
        raise BadConfig(f"the speeds cannot be kept for `plan` ({error.strerror}); set CTBENCH_HOME") from None
