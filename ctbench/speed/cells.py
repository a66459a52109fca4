"""Cells: warm workers of the engine against one Trainer process per cell, whole process.

A cell fine-tunes the tiny shape on 400 examples of 10 to 60 tokens for 10 epochs and scores 200 test examples. The engine
uses its own workers, which read specs, look up the store and write to it; they are warm, as in a run. The Trainer's side
is a script per cell: start, load, tokenise, train, evaluate.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ctbench.engine.expand import expand
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.engine.launchers.process import start_serving, worker_environment
from ctbench.engine.node import Node
from ctbench.errors import RunFailed
from ctbench.speed.rounds import ratio, spread
from ctbench.speed.shapes import Shape, random_texts, save_checkpoint

NUM_CLASSES: Final = 4
SHORTEST: Final = 10
LONGEST: Final = 60
MAX_LENGTH: Final = 64
BATCH: Final = 32
LR: Final = 1e-4
METHOD: Final = '"""Plain."""\nfrom ctbench import Method\nclass Plain(Method):\n    """Nothing but the LM loss."""\n'
STREAM: Final = """
kind = "domain"
summary = "random text"
[[domains]]
name = "random"
text = {{ source = "files", path = "text.txt" }}
[domains.task]
source = "files"
train = "train.jsonl"
test = "test.jsonl"
[pretrain]
tokens = 1_000
batch = 2
length = 16
[finetune]
epochs = {epochs}
lr = {lr}
batch = {batch}
max_length = {max_length}
precision = "{precision}"
seeds = [{seeds}]
threads = 1
"""


@dataclass(frozen=True, kw_only=True)
class CellWork:
    """The work of a cell, and how many cells a round has.

    Args:
        shape: the model.
        examples: training examples; half as many are scored.
        epochs: passes over the training examples.
        per_worker: cells that each worker computes in a round.
    """

    shape: Shape
    examples: int = 400
    epochs: int = 10
    per_worker: int = 3


@dataclass(frozen=True, kw_only=True)
class CellSide:
    """One competitor over cells.

    Args:
        precision: "fp32" or "bf16".
        workers: warm workers of one thread; None for a Trainer process per cell.
    """

    precision: str
    workers: int | None

    @property
    def label(self) -> str:
        """Name of the side in tables."""
        if self.workers is None:
            return f"Trainer {self.precision}"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''} {self.precision}"


def plan_cell_sides(precisions: Sequence[str], workers: int) -> list[CellSide]:
    """Return three sides per precision: all workers, one worker, a Trainer."""
    counts = (*sorted({workers, 1}, reverse=True), None)
    return [CellSide(precision=precision, workers=count) for precision in precisions for count in counts]


def write_cells(work: CellWork, folder: Path, *, precision: str, count: int) -> list[Node]:
    """Write model, task and stream into `folder` and return `count` nodes that differ in their seed only."""
    folder.mkdir(parents=True)
    generator = np.random.Generator(np.random.PCG64(0))
    for name, size in (("train", work.examples), ("test", work.examples // 2)):
        lengths = generator.integers(
            SHORTEST - 2, LONGEST - 1, size=size
        ).tolist()  # the tokenizer adds two special tokens
        texts = random_texts(work.shape.vocabulary, lengths, seed=size)
        labels = generator.integers(NUM_CLASSES, size=size)
        labels[:NUM_CLASSES] = np.arange(NUM_CLASSES)
        lines = [
            json.dumps({"text": text, "label": f"c{label}"}) for text, label in zip(texts, labels.tolist(), strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = "\n\n".join(random_texts(work.shape.vocabulary, [30] * 200, seed=1))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    save_checkpoint(work.shape, folder / "model")
    seeds = ", ".join(str(seed) for seed in range(count))
    filled = STREAM.format(
        epochs=work.epochs, precision=precision, seeds=seeds, lr=LR, batch=BATCH, max_length=MAX_LENGTH
    )
    (folder / "stream.toml").write_text(filled, encoding="utf-8")
    (folder / "plain.py").write_text(METHOD, encoding="utf-8")
    about = {"epochs": work.epochs, "precision": precision, "classes": NUM_CLASSES}
    about |= {"batch": BATCH, "lr": LR, "max_length": MAX_LENGTH}
    (folder / "trainer.json").write_text(json.dumps(about), encoding="utf-8")
    job = Job(method=str(folder / "plain.py"), stream=str(folder / "stream.toml"), model=str(folder / "model"))
    return [node for (source, _, _), node in expand(read_inputs(job), 0).cells.items() if source == 0]


@contextlib.contextmanager
def warm_workers(count: int, folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Start workers of the engine on a store in `folder`; they stop when the block ends."""
    workers = []
    try:
        for _ in range(count):
            workers.append(
                start_serving("ctbench.engine.launchers.worker", str(folder / "store"), str(folder / "corpora"))
            )
        yield workers
    finally:
        for worker in workers:
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.close()
            worker.stdout.close()
            worker.wait()


def seconds_of_cells(workers: Sequence[subprocess.Popen[str]], nodes: Sequence[Node]) -> float:
    """Return the wall time that the workers need for the nodes, which are distributed evenly.

    Raises:
        RunFailed: a worker failed or died.
    """
    started = time.perf_counter()
    for index, node in enumerate(nodes):
        pipe = workers[index % len(workers)].stdin
        assert pipe is not None
        pipe.write(node.spec().to_json() + "\n")
        pipe.flush()
    for index in range(len(nodes)):
        pipe = workers[index % len(workers)].stdout
        assert pipe is not None
        reply = json.loads(pipe.readline() or '{"what": "failed", "message": "the worker died"}')
        if reply["what"] != "done":
            raise RunFailed(f"bench, cell: {reply['message']}")
    return time.perf_counter() - started


def seconds_of_trainer(folder: Path, *, threads: int, script: str = "trainer_cell") -> float:
    """Return the wall time of one Trainer process that computes a cell or a stage with `threads`.

    Raises:
        RunFailed: the process failed; the message holds the last line of its standard error.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"ctbench.speed.{script}", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=worker_environment() | {"OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise RunFailed(f"bench, {script}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return time.perf_counter() - started


def measure_cells(
    work: CellWork,
    folder: Path,
    *,
    precisions: Sequence[str],
    workers: int,
    pairs: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return cells per minute of `workers` warm one-thread workers, of one, and of a Trainer process per cell.

    The Trainer has as many threads as there are workers, so both sides have the same cores.

    Args:
        work: the cell.
        folder: an empty folder for models, data and store.
        precisions: precisions to measure; all sides take turns.
        workers: maximum number of workers; with 1 there is no comparison of workers.
        pairs: number of rounds; every second round runs the sides in reverse order.
        say: called with a line of text after every round.
    """
    sides = plan_cell_sides(precisions, workers)
    count = workers + pairs * work.per_worker * sum({workers, 1})
    nodes = {kind: write_cells(work, folder / kind, precision=kind, count=count) for kind in precisions}
    times: dict[CellSide, list[float]] = {side: [] for side in sides}
    with warm_workers(workers, folder) as pool:
        for mine in nodes.values():
            seconds_of_cells(pool, [mine.pop() for _ in pool])
        for number in range(pairs):
            for side in sides if number % 2 == 0 else reversed(sides):
                if side.workers is None:
                    times[side].append(seconds_of_trainer(folder / side.precision, threads=workers))
                else:
                    mine = [nodes[side.precision].pop() for _ in range(work.per_worker * side.workers)]
                    times[side].append(seconds_of_cells(pool[: side.workers], mine) / len(mine))
            shown = ", ".join(f"{side.label} {found[-1]:.2f}" for side, found in times.items())
            say(f"round {number + 1} of {pairs}, s a cell: {shown}")
    return summarise_cells(work, times)


def summarise_cells(work: CellWork, times: Mapping[CellSide, Sequence[float]]) -> dict[str, Any]:
    """Return the rows and ratios of seconds per cell; a ratio above 1 means that the first side is faster."""
    return {
        "shape": work.shape.name,
        "layer_parameters": work.shape.layer_parameters,
        "examples": work.examples,
        "epochs": work.epochs,
        "pairs": min(len(found) for found in times.values()),
        "sides": [
            {
                "label": side.label,
                "precision": side.precision,
                "workers": side.workers,
                "seconds_per_cell": spread(found),
                "cells_per_minute": spread([60.0 / seconds for seconds in found]),
            }
            for side, found in times.items()
        ],
        "ratios": [
            {"label": side.label, "against": other.label, **ratio(times[other], times[side])}
            for side, other in _compared(list(times))
        ],
    }


def _compared(sides: Sequence[CellSide]) -> list[tuple[CellSide, CellSide]]:
    """Return the pairs to compare: workers with each Trainer, and many workers with one worker of the same precision."""
    pairs = []
    for side in sides:
        if side.workers is not None:
            pairs += [(side, other) for other in sides if other.workers is None]
            if side.workers > 1:
                pairs.append((side, CellSide(precision=side.precision, workers=1)))
    return pairs
