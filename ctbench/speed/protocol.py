"""A whole run of a stream from an empty store, against the same protocol with one Trainer process per stage and per cell.

The method is the LM loss alone. The complete protocol with a Trainer would take many minutes, so a part of it is timed and
the rest projected: the base and one stage in full, and one cell of each of the first domains. The Trainer reads its texts
from files; the engine generates them.
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
from typing import Any, Final

from ctbench.data.sources import read_texts
from ctbench.data.stream import PretrainRecipe, Stream
from ctbench.data.tasks import check_task
from ctbench.engine.bases import find_shipped
from ctbench.errors import BadConfig, RunFailed
from ctbench.plugins.find import get_stream
from ctbench.speed.cells import METHOD, seconds_of_trainer
from ctbench.speed.rounds import spread

MODEL: Final = "tiny"
NUM_CELLS: Final = 3
"""Number of cells that are timed with a Trainer."""


def measure_protocol(
    name: str,
    folder: Path,
    *,
    precisions: Sequence[str],
    threads: int,
    num_cells: int = NUM_CELLS,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return the seconds of the engine's run, those of the timed parts with a Trainer, and the projected ratios.

    Args:
        name: name or path of a stream whose backbone is `tiny`.
        folder: an empty folder for stores and data.
        precisions: precisions of base, stages and cells on both sides; they override the stream's recipe.
        threads: threads of a Trainer process; the engine chooses its workers itself.
        num_cells: cells that are timed with a Trainer, each of another domain.
        say: called with a line of text after every part.

    Raises:
        BadConfig: the stream has no base to train.
        RunFailed: a process failed; the message holds the last line of its standard error.
    """
    stream = get_stream(name)
    if stream.recipe.base is None or stream.general is None:
        raise BadConfig(
            f"bench: stream {stream.name} has no [base] and [general], so a run from an empty store cannot be measured"
        )
    num_stages = len(stream.domains)
    engines, trainers = [], []
    own_base = settings_of_own_base(name, precisions)
    for precision in precisions:
        here = folder / precision
        here.mkdir(parents=True)
        engine, trainer = _measure_both(name, here, _settings(precision) | own_base, threads, num_cells, say)
        engines.append(engine)
        trainers.append(trainer)
    return summarise_protocol(
        stream.name,
        engines,
        trainers,
        num_stages=num_stages,
        num_cells=(num_stages + 1) * num_stages * len(stream.recipe.finetune.seeds),
        threads=threads,
    ) | {"has_own_base": bool(own_base)}


def settings_of_own_base(name: str, precisions: Sequence[str]) -> dict[str, str]:
    """Return settings under which the engine trains the base as the Trainer must; empty if it does so anyway.

    A base that came with the stream is used only for the recipe that it was made by, so one update more is another base.
    """
    streams = [get_stream(name, settings=_settings(precision)) for precision in precisions]
    recipe = streams[0].recipe.base
    if recipe is None or all(find_shipped(stream, MODEL) is None for stream in streams):
        return {}
    return {"base.tokens": str((recipe.num_steps + 1) * recipe.batch * recipe.length)}


def _settings(precision: str) -> dict[str, str]:
    return {f"{part}.precision": precision for part in ("base", "pretrain", "finetune")}


def _measure_both(
    name: str, folder: Path, settings: dict[str, str], threads: int, num_cells: int, say: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    precision = settings["base.precision"]
    write_trainer_side(get_stream(name, settings=settings), folder)
    (folder / "plain.py").write_text(METHOD, encoding="utf-8")
    engine = [sys.executable, "-P", "-m", "ctbench", "run", "--method", str(folder / "plain.py"), "--stream", name]
    engine += ["--results", str(folder / "results")]
    engine += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run = _seconds(engine, home=folder / "home")
    say(f"engine {precision}, the whole run: {run:.1f} s")
    names = [path.name for path in sorted(folder.glob("cell-*"))[:num_cells]]
    times = {}
    for part in ("base", "stage", *names):
        script = "trainer_cell" if part in names else "trainer_stage"
        times[part] = seconds_of_trainer(folder / part, threads=threads, script=script)
        say(f"Trainer {precision}, {part}: {times[part]:.1f} s")
    cells = [times[part] for part in names]
    parts = {"base_seconds": times["base"], "stage_seconds": times["stage"], "cell_seconds": spread(cells)}
    return (
        {"label": f"engine {precision}", "precision": precision, "seconds": run},
        {"label": f"Trainer {precision}", "precision": precision, **parts},
    )


def summarise_protocol(
    name: str,
    engines: Sequence[dict[str, Any]],
    trainers: Sequence[dict[str, Any]],
    *,
    num_stages: int,
    num_cells: int,
    threads: int,
) -> dict[str, Any]:
    """Return the record; the total seconds of a Trainer are projected: base + stages x stage + cells x the median cell."""
    projected = []
    for side in trainers:
        cells = num_cells * side["cell_seconds"]["median"]
        projected.append(side | {"seconds": side["base_seconds"] + num_stages * side["stage_seconds"] + cells})
    return {
        "stream": name,
        "stages": num_stages,
        "cells": num_cells,
        "threads": threads,
        "engines": list(engines),
        "trainers": projected,
        "ratios": [
            {"label": engine["label"], "against": side["label"], "ratio": side["seconds"] / engine["seconds"]}
            for engine in engines
            for side in projected
        ],
    }


def write_trainer_side(stream: Stream, folder: Path) -> None:
    """Write the inputs of the Trainer's scripts: folders `base`, `stage` and one `cell-` folder per domain."""
    from ctbench.backbone.loading import quiet
    from ctbench.backbone.tiny import build_tiny

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
