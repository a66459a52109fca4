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

from ctbench.bench.cells import METHOD
from ctbench.bench.shapes import find_shape, random_texts, save_checkpoint
from ctbench.errors import RunFailed
from ctbench.estimate import TRAIN_OVER_EVALUATE
from ctbench.graph import digest

NUMBERS: Final = ("weights_digest", "losses", "metrics", "validation")
"""Fields of the store's records that no number of workers may change."""
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
    """How much work a run is.

    Args:
        domains: T.
        megabytes: of raw text, all domains together.
        seeds: run seeds.
        workers: processes.
        stage_tokens: budget of a stage.
    """

    domains: int = 2
    megabytes: float = 1.0
    seeds: int = 1
    workers: int = 1
    stage_tokens: int = 100_000


def run_case(case: Case) -> dict[str, Any]:
    """Write the case's data, run it from nothing, and return what it took.

    Returns:
        `wall_seconds`; `cpu_seconds` of all its processes; `peak_memory_bytes` of the largest of them; `nodes`;
        `tokens` that were trained on, those that were only read counted by their share; `megabytes` that were
        packed; `numbers`, a digest of all weights, losses and scores.

    Raises:
        RunFailed: the run failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(case, folder)
        started = time.perf_counter()
        with (folder / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "ctbench", "run", *_arguments(case, folder)],
                env={**os.environ, "CTBENCH_HOME": str(folder / "home")},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        _, status, usage = os.wait4(process.pid, 0)  # with all the processes that it waited for
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
    """Write random documents until the file has `size` bytes, in parts, so that memory does not grow with it."""
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


def _work(store: Path) -> dict[str, Any]:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(store.glob("??/*/record.json"))]
    shares = [1.0 if "seconds" in record else 1.0 / TRAIN_OVER_EVALUATE for record in records]
    tokens = sum(record["tokens"] * share for record, share in zip(records, shares, strict=True))
    numbers = [{name: record.get(name) for name in NUMBERS} for record in records]
    return {"nodes": len(records), "tokens": tokens, "numbers": digest(numbers)}
