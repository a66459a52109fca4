"""Runs that are killed, and what became of them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from small_streams import write_stream
from worlds import CHECKPOINTS, Ended, World, differences, preload

SETTINGS: Final = {"das": {"importance_blocks": 4}, "ewc": {"num_examples": 4}}
LIMITS: Final = dict.fromkeys(("num_documents", "num_general_documents"), "60") | {
    "tokens": "1_024",
    "batch": "2",
    "length": "16",
    "lr": "5e-3",
    "max_length": "16",
    "held_out_tokens": "64",
    "epochs": "1",
    "seeds": "[0]",
    "num_train": "16",
    "num_validation": "0",
    "num_test": "16",
}
"""Stages of 32 updates, with checkpoints after 10, 20 and 30."""


@dataclass(kw_only=True)
class Row:
    """What became of a world: a row of the table.

    Args:
        name: method or control.
        instants: number of kills by where they hit.
        num_resumed: stages that went on from a checkpoint inside them.
        different: files that differ from an undisturbed run.
        left: what was left over.
        odd: ends that were neither success nor a planned kill.
    """

    name: str
    instants: Counter[str] = field(default_factory=Counter)
    num_resumed: int = 0
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def count(self, ended: Ended, world: World, where: str = "at a random instant") -> None:
        """Take note of an end; what is killed at a call says so in the journal."""
        self.num_resumed += ended.num_resumed
        calls = world.noted("killed")
        world.journal.unlink(missing_ok=True)
        self.instants.update(calls)
        if ended.is_killed and not calls:
            self.instants[where] += 1
        if ended.code != 0 and not ended.is_killed:
            self.odd.append(ended.text.strip().rpartition("\n")[2])
        if "damaged" in ended.text:
            self.odd += [line for line in ended.text.splitlines() if "damaged" in line]

    def compare(self, world: World, whole: dict[str, object]) -> None:
        """Compare a finished world with an undisturbed one."""
        self.left += world.left_over()
        self.different += differences(world.content(), whole)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost and nothing is wrong."""
        return not (self.different or self.left or self.odd)

    def __str__(self) -> str:
        where = ", ".join(f"{number} {name}" for name, number in self.instants.most_common())
        found = (sum(self.instants.values()), self.num_resumed, len(self.different), len(self.left), len(self.odd))
        return f"{self.name:16}" + "".join(f"{number:>9}" for number in found) + f"  {where}"


KILLED_TWICE: Final = "its worker was killed by signal 9"
"""What a run says of a node whose worker was killed in both its tries."""
HEAD: Final = f"{'what':16}{'kills':>9}{'resumed':>9}{'differ':>9}{'left':>9}{'odd':>9}  where they hit"


class Ground:
    """Where worlds are made, and what undisturbed runs leave.

    Args:
        folder: an empty one.
        seed: of all that is drawn.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        preload()
        self.folder = folder
        self.stream = write_stream(folder, **LIMITS)
        self.random = random.Random(seed)
        self.whole: dict[str, dict[str, object]] = {}
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.checkpoint_calls: dict[str, int] = {}

    def world(self, name: str, **options: object) -> World:
        """Return a new world."""
        return World(place=self.folder / name, stream=self.stream, settings=SETTINGS, **options)  # type: ignore[arg-type]

    def undisturbed(self, method: str) -> dict[str, object]:
        """Return what an undisturbed run of a method leaves."""
        if method not in self.whole:
            world = self.world("whole")
            started = time.monotonic()
            ended = world.run(method)
            self.seconds[method] = time.monotonic() - started
            if ended.code != 0:
                sys.exit(f"{method} fails undisturbed:\n{ended.text}")
            self.calls[method], self.checkpoint_calls[method] = map(int, world.noted("calls")[0].split())
            self.whole[method] = world.content()
            preload(world)
        return self.whole[method]

    def instant(self, method: str) -> dict[str, Any]:
        """Draw an instant in the first two thirds of a run: at any time, at any call, or at a call for a checkpoint.

        At every other call the power is cut.
        """
        kind = self.random.choice(("time", "call", "checkpoint"))
        if kind == "time":
            return {"seconds": self.random.uniform(0.05, 0.66 * self.seconds[method])}
        calls, within = (self.calls, "") if kind == "call" else (self.checkpoint_calls, CHECKPOINTS)
        call = self.random.randint(1, max(2, calls[method] * 2 // 3))
        return {"call": call, "within": within, "is_power_cut": self.random.random() < 0.5}


def kill_method(
    ground: Ground, method: str, num_kills: int, *, name: str = "", breaks: Callable[[], None] | None = None
) -> Row:
    """Kill runs of a method in one process, each where the one before was killed, and complete them.

    Args:
        ground: where.
        method: which.
        num_kills: how often.
        name: of the row, if it is not the method's.
        breaks: what a control breaks; the first sign of it is enough.
    """
    whole, row = ground.undisturbed(method), Row(name=name or method)
    world = ground.world("killed", breaks=breaks)
    while sum(row.instants.values()) < num_kills:
        ended = world.run(method, **ground.instant(method))
        row.count(ended, world)
        if ended.code == 0:
            row.compare(world, whole)
            world.wipe()
        if breaks is not None and not row.is_clean:
            return row
    row.count(world.run(method), world)
    row.compare(world, whole)
    return row


def kill_stages(ground: Ground, method: str, num_kills: int, *, breaks: Callable[[], None] | None = None) -> Row:
    """Kill a run that has only its stages to compute while it writes checkpoints, with the power cut, and complete it."""
    whole, row = ground.undisturbed(method), Row(name=f"{method}, broken" if breaks else f"{method}, stages")
    world = ground.world("killed", breaks=breaks)
    shutil.copytree(ground.folder / "whole" / "home", world.place / "home")
    for record in (world.place / "home" / "store").glob("??/*/record.json"):
        if '"kind": "stage"' in record.read_text(encoding="utf-8"):
            shutil.rmtree(record.parent)
    for _ in range(num_kills):
        call = ground.random.randint(ground.checkpoint_calls[method] // 6, ground.checkpoint_calls[method] // 3)
        row.count(world.run(method, call=call, within=CHECKPOINTS, is_power_cut=True), world)
    row.count(world.run(method), world)
    row.compare(world, whole)
    return row


def kill_workers(ground: Ground, method: str) -> Row:
    """Kill two workers of a run at calls and one at a random instant, then the parent of others, and complete the run."""
    whole, row = ground.undisturbed(method), Row(name=f"{method}, workers")
    world = ground.world("killed")
    fuses = world.place / "fuses"
    fuses.mkdir()
    for number in range(2):
        (fuses / f"{ground.random.randint(1, ground.calls[method] // 3)}-{number}").touch()
    victim = world.start(method, workers=2, fuses=str(fuses))
    if not victim.wait(ground.random.uniform(6.0, 10.0)) and (workers := victim.workers()):
        os.kill(ground.random.choice(workers), signal.SIGKILL)
        row.instants["of a worker at a random instant"] += 1
    row.count(victim.end(), world)
    row.odd = [line for line in row.odd if KILLED_TWICE not in line]
    world.wipe()
    ended = world.run(method, workers=2, seconds=ground.random.uniform(5.0, 9.0))
    row.count(ended, world, "of the parent at a random instant")
    row.count(world.run(method), world)
    row.compare(world, whole)
    return row


def stress(ground: Ground, methods: Sequence[str], num_kills: int) -> Row:
    """Let processes compute the runs of methods into one store while they are killed and started again."""
    whole = {name: data for method in methods for name, data in ground.undisturbed(method).items()}
    world, row = ground.world("shared"), Row(name=f"{len(methods)} processes")
    running = [(method, world.start(method, **_call(ground, method))) for method in methods]
    killed = 0
    while running:
        method, victim = running.pop(ground.random.randrange(len(running)))
        if killed < num_kills and not victim.wait(ground.random.uniform(0.1, 1.0)):
            victim.kill()
        elif killed >= num_kills and not victim.wait(0.05):
            running.append((method, victim))
            continue
        ended = victim.end()
        killed += ended.is_killed
        row.num_resumed += ended.num_resumed
        row.odd += [] if ended.code in (0, -signal.SIGKILL) else [ended.text.strip().rpartition("\n")[2]]
        if ended.code != 0 or killed < num_kills:
            more = _call(ground, method) if killed < num_kills else {}
            running.append((method, world.start(method, **more)))
    calls = Counter(world.noted("killed"))
    row.instants.update(calls)
    row.instants["at a random instant"] = killed - sum(calls.values())
    row.odd += twice(world)
    row.compare(world, whole)
    return row


def twice(world: World) -> list[str]:
    """Return which nodes were completed twice or taken away."""
    counts = Counter(world.noted("complete"))
    return [f"node {key} was completed {number} times" for key, number in counts.items() if number > 1] + [
        f"node {key} was removed" for key in world.noted("removed")
    ]


def _call(ground: Ground, method: str) -> dict[str, int]:
    return {"call": ground.random.randint(1, ground.calls[method])} if ground.random.random() < 0.5 else {}
