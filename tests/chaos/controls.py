"""What is broken on purpose in a victim, and must be noticed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attacks import Ground, Row, kill_method, kill_stages, twice
from small_streams import write_method

NUM_KILLS: Final = 16
"""Kills after which a control counts as not noticed."""


def break_folders() -> None:
    """Write nodes, corpora and checkpoints where they belong, with no rename."""
    from ctbench.data import tokens
    from ctbench.engine import resume, store

    @contextlib.contextmanager
    def in_place(path: Path) -> Iterator[Path]:
        path.mkdir(parents=True, exist_ok=True)
        yield path

    for module in (tokens, resume, store):
        module.whole_folder = in_place  # type: ignore[attr-defined]


def break_files() -> None:
    """Write results where they belong, with no rename."""
    from ctbench.results import writing

    def in_place(path: Path, data: str | bytes, *, replace: bool = True) -> bool:
        with path.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        return True

    writing.write_whole = in_place


def break_generators() -> None:
    """Resume a stage without the place of its generators."""
    _break_checkpoints(num_extra=0)


def break_moments() -> None:
    """Resume a stage without the optimiser's state."""
    _break_checkpoints(optimizer={})


def _break_checkpoints(**lost: Any) -> None:
    from ctbench.engine import compute

    load = compute.load_checkpoint

    def forgetful(folder: Path) -> Any:
        found = load(folder)
        return found if found is None else type(found)(**{**vars(found), **lost})

    compute.load_checkpoint = forgetful


def break_store() -> None:
    """Never find a node in the store."""
    from ctbench.engine.store import Store

    Store.has = lambda _self, _key: False  # type: ignore[method-assign]


def kill_result(ground: Ground, breaks: Callable[[], None] | None) -> Row:
    """Kill a run that has only its result to write at each of its calls in turn, with the power cut."""
    whole, row = ground.undisturbed("naive"), Row(name="result in place" if breaks else "result")
    world = ground.world("killed", breaks=breaks)
    row.count(world.run("naive"), world)
    shutil.rmtree(world.place / "results")
    last = world.run("naive")
    num_calls = int(world.noted("calls")[0].split()[0])
    row.count(last, world)
    for call in range(1, num_calls + 1):
        shutil.rmtree(world.place / "results", ignore_errors=True)
        row.count(world.run("naive", call=call, is_power_cut=True), world)
        row.count(world.run("naive"), world)
        row.compare(world, whole)
        if breaks is not None and not row.is_clean:
            break
    return row


def compute_twice(ground: Ground) -> Row:
    """Run a method twice with a store that finds nothing."""
    row, world = Row(name="blind store"), ground.world("killed", breaks=break_store)
    for _ in range(2):
        world.run("naive")
    row.odd += twice(world)
    return row


def kill_reading(ground: Ground) -> Row:
    """Kill a method that trains on fresh blocks beside the batch, so that it matters which ones come next."""
    loss = "def loss(self, stage, batch):\n    both = stage.backbone(batch).loss, stage.backbone(stage.sample(1)).loss"
    method = write_method(ground.folder, f'{loss}\n    return {{"lm": both[0], "more": both[1]}}', "reading")
    return kill_method(ground, str(method), NUM_KILLS, name="no generators", breaks=break_generators)


def _killed(method: str, name: str, breaks: Callable[[], None]) -> Callable[[Ground], Row]:
    return lambda ground: kill_method(ground, method, NUM_KILLS, name=name, breaks=breaks)


CONTROLS: Final[Mapping[str, Callable[[Ground], Row]]] = {
    "folders written in place": _killed("naive", "folders in place", break_folders),
    "a result written in place": lambda ground: kill_result(ground, break_files),
    "a checkpoint without the place of the generators": kill_reading,
    "a checkpoint without the optimiser's state": lambda ground: kill_stages(ground, "naive", 2, breaks=break_moments),
    "a store that finds nothing": compute_twice,
}
"""By name, what kills a broken victim."""
