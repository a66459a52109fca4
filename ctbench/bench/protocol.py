"""A whole run of a stream from nothing, against the same protocol with one Trainer process per stage and per cell.

The method is the LM loss alone. The rival's complete protocol would take many minutes, so a part is timed and the rest
projected: the base and one stage in full, and one cell of each of the first domains. It is handed its texts as files; the
engine makes its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from ctbench.bench.cells import METHOD, seconds_of_trainer
from ctbench.bench.rounds import spread
from ctbench.data.sources import read_texts
from ctbench.data.stream import PretrainRecipe, Stream
from ctbench.data.tasks import check_task
from ctbench.errors import BadConfig, RunFailed
from ctbench.plugins import get_stream

NUM_CELLS: Final = 3
"""Cells of the rival that are timed."""


def measure_protocol(
    name: str, folder: Path, *, threads: int, num_cells: int = NUM_CELLS, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the seconds of the engine's run, those of the rival's parts, and the projected ratio.

    Args:
        name: a stream whose backbone is `tiny`, or the path of one.
        folder: empty, for stores and data.
        threads: of the rival's processes; the engine chooses its workers itself.
        num_cells: cells of the rival that are timed, each of another domain.
        say: told about every part.

    Raises:
        BadConfig: the stream has no base to train.
        RunFailed: a process failed, with the last line that it said.
    """
    stream = get_stream(name)
    if stream.recipe.base is None or stream.general is None:
        raise BadConfig(f"bench: stream {stream.name} has no [base] and [general], so there is no run from nothing")
    write_rival(stream, folder)
    (folder / "plain.py").write_text(METHOD, encoding="utf-8")
    engine = [sys.executable, "-m", "ctbench", "run", "--method", str(folder / "plain.py"), "--stream", name]
    times = {"run": _seconds([*engine, "--results", str(folder / "results")], home=folder / "home")}
    say(f"engine, the whole run: {times['run']:.1f} s")
    names = [path.name for path in sorted(folder.glob("cell-*"))[:num_cells]]
    for part in ("base", "stage", *names):
        script = "trainer_cell" if part in names else "trainer_stage"
        times[part] = seconds_of_trainer(folder / part, threads=threads, script=script)
        say(f"Trainer, {part}: {times[part]:.1f} s")
    num_stages = len(stream.domains)
    return summarise_protocol(
        stream.name,
        times["run"],
        base=times["base"],
        stage=times["stage"],
        cells=[times[part] for part in names],
        num_stages=num_stages,
        num_cells=(num_stages + 1) * num_stages * len(stream.recipe.finetune.seeds),
        threads=threads,
    )


def summarise_protocol(
    name: str,
    run: float,
    *,
    base: float,
    stage: float,
    cells: Sequence[float],
    num_stages: int,
    num_cells: int,
    threads: int,
) -> dict[str, Any]:
    """Return the record; `trainer_seconds` is base + stages x stage + cells x the median cell."""
    rival = base + num_stages * stage + num_cells * median(cells)
    return {
        "stream": name,
        "stages": num_stages,
        "cells": num_cells,
        "threads": threads,
        "engine_seconds": run,
        "base_seconds": base,
        "stage_seconds": stage,
        "cell_seconds": spread(cells),
        "timed_cells": len(cells),
        "trainer_seconds": rival,
        "ratio": rival / run,
    }


def write_rival(stream: Stream, folder: Path) -> None:
    """Write what the rival's scripts read: folders `base`, `stage` and one `cell-` folder a domain."""
    from ctbench.loading import quiet
    from ctbench.tiny import build_tiny

    assert stream.general is not None and stream.recipe.base is not None
    with quiet():
        backbone = build_tiny(read_texts(stream, stream.general, domain=None), seed=0)
        for part in ("base", "stage"):
            backbone.model.save_pretrained(folder / part / "model")
            backbone.tokenizer.save_pretrained(folder / part / "model")
    first = stream.domains[0]
    _write_stage(folder / "base", read_texts(stream, stream.general, domain=None), stream.recipe.base)
    _write_stage(folder / "stage", read_texts(stream, first.text, domain=first.name), stream.recipe.pretrain)
    recipe = stream.recipe.finetune
    for number, domain in enumerate(stream.domains):
        target = folder / f"cell-{number:02d}"
        target.mkdir()
        (target / "model").symlink_to(folder / "stage" / "model")
        train, _, test, labels = check_task(stream, domain)
        for split, examples in (("train", train), ("test", test)):
            rows = [{"text": example.text, "label": f"c{labels.index(example.label)}"} for example in examples]
            (target / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        about = {name: getattr(recipe, name) for name in ("epochs", "precision", "batch", "lr", "max_length")}
        (target / "trainer.json").write_text(json.dumps({**about, "classes": len(labels)}), encoding="utf-8")


def _write_stage(folder: Path, texts: Any, recipe: PretrainRecipe) -> None:
    with (folder / "text.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in texts)
    about = dataclasses.asdict(recipe) | {"steps": recipe.num_steps}
    (folder / "trainer.json").write_text(json.dumps(about), encoding="utf-8")


def _seconds(command: list[str], *, home: Path) -> float:
    started = time.perf_counter()
    environment = {**os.environ, "CTBENCH_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RunFailed(f"bench, protocol: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return time.perf_counter() - started
