from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from micro_bench import MICRO, WORK

from ctbench.errors import RunFailed
from ctbench.speed.cells import CellWork, measure_cells, plan_cell_sides, summarise_cells, warm_workers, write_cells
from ctbench.speed.side import SideProcess
from ctbench.speed.work import as_request

pytestmark = pytest.mark.slow

CELL = CellWork(shape=dataclasses.replace(MICRO, length=64), examples=12, epochs=1, per_worker=1)


def test_ratio_of_cells_says_how_many_times_faster():
    sides = {side.label: side for side in plan_cell_sides(("fp32", "bf16"), 2)}
    assert list(sides)[:3] == ["2 workers fp32", "1 worker fp32", "Trainer fp32"]
    seconds = {
        "2 workers fp32": [1.0, 2.0, 1.0],
        "1 worker fp32": [2.0, 3.0, 2.0],
        "Trainer fp32": [20.0, 20.0, 30.0],
        "2 workers bf16": [0.5, 0.5, 0.5],
        "1 worker bf16": [1.0, 1.0, 1.0],
        "Trainer bf16": [10.0, 10.0, 10.0],
    }
    found = summarise_cells(CELL, {sides[label]: values for label, values in seconds.items()})
    ratios = {(row["label"], row["against"]): row for row in found["ratios"]}
    assert ratios["2 workers fp32", "Trainer fp32"]["values"] == [20.0, 10.0, 30.0]
    assert ratios["1 worker fp32", "Trainer fp32"]["median"] == 10.0
    assert ratios["2 workers fp32", "1 worker fp32"]["median"] == 2.0
    assert ratios["2 workers bf16", "Trainer fp32"]["median"] == 40.0
    assert ratios["2 workers bf16", "Trainer bf16"]["median"] == 20.0
    assert ("2 workers bf16", "1 worker fp32") not in ratios
    assert len(ratios) == 2 * (2 * 2 + 1)
    assert found["pairs"] == 3
    assert found["sides"][0]["cells_per_minute"]["max"] == 60.0
    assert [side["workers"] for side in found["sides"]] == [2, 1, None, 2, 1, None]


def test_ratio_of_cells_needs_every_round_of_both_sides():
    first, second = plan_cell_sides(("fp32",), 1)
    with pytest.raises(ValueError, match="zip"):
        summarise_cells(CELL, {first: [1.0], second: [1.0, 2.0]})


def test_warm_worker_and_trainer_process_compute_cells_in_each_precision(tmp_path):
    found = measure_cells(CELL, tmp_path, precisions=("fp32", "bf16"), workers=1, pairs=1, say=lambda _: None)
    labels = [side["label"] for side in found["sides"]]
    assert labels == ["1 worker fp32", "Trainer fp32", "1 worker bf16", "Trainer bf16"]
    assert all(side["seconds_per_cell"]["median"] > 0 for side in found["sides"])
    assert len(found["ratios"]) == 4
    assert len(list((tmp_path / "store").glob("??/*/record.json"))) == 4  # of each precision one warms up, one counts


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_sides_of_cells_use_the_requested_precision(precision, tmp_path):
    nodes = write_cells(CELL, tmp_path / "here", precision=precision, count=3)
    assert [node.identity.arithmetic.precision for node in nodes] == [precision] * 3
    assert json.loads((tmp_path / "here" / "trainer.json").read_text())["precision"] == precision


def test_interrupt_at_the_terminal_does_not_reach_warm_workers(tmp_path):
    with warm_workers(1, tmp_path) as (worker,):
        assert os.getpgid(worker.pid) != os.getpgrp()
    assert worker.returncode == -signal.SIGTERM  # its own, when its input ended


def test_side_process_stops_when_closed_during_a_request(tmp_path):
    side = SideProcess("engine")
    long = as_request("engine", dataclasses.replace(WORK, steps=10_000_000))
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(side.ask, long)
        time.sleep(0.1)
        side.close()
        with pytest.raises((RunFailed, ValueError)):  # ValueError: its pipe was closed under the reader
            asked.result()


def test_side_process_reports_a_failure_and_continues():
    side = SideProcess("engine")
    try:
        with pytest.raises(RunFailed, match="no method 'nobody'"):
            side.ask(as_request("engine", dataclasses.replace(WORK, method="nobody")))
        assert side.ask(as_request("engine", WORK))["tokens"] == 10 * 8 * 32
    finally:
        side.close()
