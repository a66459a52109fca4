"""One case of the scaling study: a stream of a given size, run by `ctbench run` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctbench.engine.estimate import TRAIN_OVER_EVALUATE
from ctbench.engine.node import digest
from ctbench.engine.records import Stored, StoredBase, StoredLoss, StoredStage
from ctbench.engine.store import Store
from ctbench.errors import RunFailed
from ctbench.machine.manifest import NAME
from ctbench.speed.cells import METHOD
from ctbench.speed.shapes import find_shape, random_texts, save_checkpoint

WORDS_PER_DOCUMENT: Final = 200
DOCUMENTS_AT_ONCE: Final = 500
HEAD: Final = """
kind = "domain"
summary = "random text"
[pretrain]
tokens = {stage_tokens}
batch = 16
length = 64
precision = "fp32"
threads = 1
held_out_tokens = 2_048
[finetune]
epochs = 2
batch = 16
seeds = [0]
max_length = 64
precision = "fp32"
threads = 1
"""
DOMAIN: Final = """
[[domains]]
name = "d{number}"
text = {{ source = "files", path = "d{number}.txt" }}
[domains.task]
source = "files"
train = "train.jsonl"
test = "test.jsonl"
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The size of a run.

    Args:
        domains: number of domains.
        megabytes: raw text of all domains together.
        seeds: number of run seeds.
        workers: number of worker processes.
        stage_tokens: token budget of a stage.
    """

    domains: int = 2
    megabytes: float = 1.0
    seeds: int = 1
    workers: int = 1
    stage_tokens: int = 100_000


def run_case(case: Case) -> dict[str, Any]:
    """Write the data of a case, run it with an empty store, and return its cost.

    Returns:
        `wall_seconds`; `cpu_seconds` of all processes; `peak_memory_bytes` of the largest process; `nodes`; `tokens`
        trained on, plus evaluated tokens at their share of the cost; `megabytes` of packed text; `numbers`, a digest of
        all weights, losses and scores.

    Raises:
        RunFailed: the run failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(case, folder)
        started = time.perf_counter()
        with (folder / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ctbench", "run", *_arguments(case, folder)],
                env={**os.environ, "CTBENCH_HOME": str(folder / "home")},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        _, status, usage = os.wait4(process.pid, 0)  # covers all child processes that it waited for
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        if process.returncode:
            lines = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RunFailed(f"bench --scaling, {case}: {(lines or ['no message'])[-1]}")
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "wall_seconds": wall,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_memory_bytes": usage.ru_maxrss * unit,
            "megabytes": sum(path.stat().st_size for path in folder.glob("d*.txt")) / 1e6,
            **_work(folder / "home" / "store"),
        }


def write_case(case: Case, folder: Path) -> None:
    """Write model, texts, task, method and stream."""
    shape = find_shape("tiny")
    save_checkpoint(shape, folder / "model")
    for number in range(case.domains):
        _write_text(folder / f"d{number}.txt", case.megabytes * 1e6 / case.domains, shape.vocabulary, seed=number)
    for name, size in (("train", 64), ("test", 64)):
        texts = random_texts(shape.vocabulary, [20] * size, seed=size)
        lines = [json.dumps({"text": text, "label": f"c{index % 2}"}) for index, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "plain.py").write_text(METHOD, encoding="utf-8")
    domains = "".join(DOMAIN.format(number=number) for number in range(case.domains))
    head = HEAD.format(stage_tokens=case.stage_tokens)
    (folder / "stream.toml").write_text(head + domains, encoding="utf-8")


def _write_text(path: Path, size: float, vocabulary: int, *, seed: int) -> None:
    """Write random documents until the file has `size` bytes, in parts, so that memory use stays constant."""
    with path.open("w", encoding="utf-8") as file:
        part = 0
        while part == 0 or file.tell() < size:
            lengths = [WORDS_PER_DOCUMENT] * DOCUMENTS_AT_ONCE
            texts = random_texts(vocabulary, lengths, seed=1_000 * seed + part)
            file.write("\n\n".join(texts[: max(1, round((size - file.tell()) / 1_000))]) + "\n\n")
            part += 1


def _arguments(case: Case, folder: Path) -> list[str]:
    options = {
        "method": folder / "plain.py",
        "stream": folder / "stream.toml",
        "model": folder / "model",
        "results": folder / "results",
        "seed": f"0..{case.seeds - 1}",
        "workers": case.workers,
    }
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def _work(root: Path) -> dict[str, Any]:
    """Return how many nodes a store holds, how many training tokens they amount to, and a digest of their numbers."""
    store = Store(root, writes=False)
    records = [store.read(path.parent.name) for path in sorted(root.glob(f"??/*/{NAME}"))]
    return {
        "nodes": len(records),
        "tokens": sum(_tokens(record) for record in records),
        "numbers": digest([_numbers(record) for record in records]),
    }


def _tokens(record: Stored) -> float:
    if isinstance(record, StoredBase | StoredStage):
        return record.training.tokens
    return record.tokens / TRAIN_OVER_EVALUATE if isinstance(record, StoredLoss) else record.tokens


def _numbers(record: Stored) -> Any:
    """Return what two computations of a node must agree on."""
    if isinstance(record, StoredBase | StoredStage):
        return record.weights_digest
    return dict(record.losses) if isinstance(record, StoredLoss) else dict(record.metrics)
