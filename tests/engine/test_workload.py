"""How much of a launch is done and what is left, by a clock of the test."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_records import fake_node

from ctbench.engine.node import Node
from ctbench.engine.schedule import makespan
from ctbench.engine.workload import Workload

RECIPE = {"tokens": 10_000, "batch": 10, "length": 10, "held_out_tokens": 600, "epochs": 3}


def node(kind: str, number: int, *parents: Node) -> Node:
    made = fake_node(kind, RECIPE | {"number": number})
    return replace(made, parents=parents)


BASE = node("base", 0)
STAGES = [node("stage", 1, BASE)]
STAGES.append(node("stage", 2, STAGES[0]))
CELLS = [node("cell", number, STAGES[number % 2]) for number in range(6)]
NODES = [BASE, *STAGES, *CELLS]


def seconds(**by_kind: float) -> dict[str, float]:
    return {each.key: by_kind[each.kind] for each in NODES}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_worker_takes_the_sum_and_many_the_longest_chain():
    times = seconds(base=10, stage=4, cell=1)
    assert makespan(NODES, times, workers=1) == 10 + 8 + 6
    assert makespan(NODES, times, workers=100) == 10 + 8 + 1
    assert makespan(NODES, times, workers=2) == 10 + 8 + 1.5 + 0.5
    assert makespan(NODES[1:], times, workers=1) == 14  # a parent that is not there is computed already
    assert makespan([], {}, workers=2) == 0.0


def test_without_measured_speeds_the_time_left_is_unknown_until_something_was_measured():
    clock = Clock()
    work = Workload(NODES, seconds(base=10, stage=4, cell=1), is_measured=False, workers=1, clock=clock)
    assert work.seconds_left() is None
    assert work.share() == 0.0
    work.start(BASE.key)
    clock.now = 5.0  # loading
    work.report(BASE.key, 0.1)
    clock.now = 25.0
    work.report(BASE.key, 0.2)
    assert work.share() == pytest.approx(2 / 24)
    assert work.seconds_left() == pytest.approx(22 * 20.0)  # a tenth of ten guessed seconds took twenty


def test_measured_speeds_are_believed_at_first_and_corrected_by_what_happens():
    clock = Clock()
    work = Workload(NODES, seconds(base=10, stage=4, cell=1), is_measured=True, workers=1, clock=clock)
    assert work.seconds_left() == 24
    work.start(BASE.key)
    clock.now = 40.0
    assert work.finish(BASE.key) == 40.0
    assert work.seconds_left() == pytest.approx(8 * 3 + 6)  # (40 + 5) / (10 + 5) for training, cells as guessed
    assert work.share() == pytest.approx(30 / 60)


def test_work_that_was_resumed_does_not_count_as_fast():
    clock = Clock()
    work = Workload(NODES, seconds(base=10, stage=4, cell=1), is_measured=False, workers=1, clock=clock)
    work.start(BASE.key)
    work.resume(BASE.key, 0.9)
    assert work.share() == pytest.approx(9 / 24)
    clock.now = 1.0
    work.finish(BASE.key)
    assert work.seconds_left() == pytest.approx(8 + 6)
    fast = Workload(NODES, seconds(base=10, stage=4, cell=1), is_measured=False, workers=1, clock=clock)
    fast.start(BASE.key)
    clock.now = 2.0
    fast.finish(BASE.key)
    assert fast.seconds_left() == pytest.approx((8 + 6) / 10)


def test_time_left_goes_down_to_nothing():
    clock = Clock()
    work = Workload(NODES, seconds(base=1, stage=1, cell=1), is_measured=True, workers=1, clock=clock)
    before = work.seconds_left()
    for each in NODES:
        work.start(each.key)
        clock.now += 1.0
        work.finish(each.key)
        left = work.seconds_left()
        assert left is not None
        assert before is not None
        assert left < before
        before = left
    assert (before, work.share()) == (0.0, 1.0)
    assert work.finish("unknown") is None


def test_the_share_never_falls_when_cells_take_longer_than_guessed():
    clock = Clock()
    work = Workload(NODES, seconds(base=10, stage=4, cell=1), is_measured=True, workers=1, clock=clock)
    for each in (BASE, *STAGES):
        work.start(each.key)
        clock.now += 10.0 if each is BASE else 4.0
        work.finish(each.key)
    trained = work.share()
    assert trained == pytest.approx(18 / 24)
    work.start(CELLS[0].key)
    clock.now += 100.0
    work.finish(CELLS[0].key)
    left = work.seconds_left()
    assert left is not None
    assert left > 5, "what is left was corrected"
    assert work.share() == trained
    for each in CELLS[1:]:
        work.start(each.key)
        clock.now += 100.0
        work.finish(each.key)
    assert work.share() == 1.0
