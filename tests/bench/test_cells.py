from __future__ import annotations

import dataclasses

import pytest
from micro_bench import MICRO, WORK

from ctbench.bench.cells import CellWork, measure_cells, summarise_cells
from ctbench.bench.loops import as_request
from ctbench.bench.side import SideProcess
from ctbench.errors import RunFailed

CELL = CellWork(shape=dataclasses.replace(MICRO, length=64), examples=12, epochs=1)


def test_ratio_of_cells_says_how_many_times_faster():
    times = {"2 workers": [1.0, 2.0, 1.0], "1 worker": [2.0, 3.0, 2.0], "Trainer": [20.0, 20.0, 30.0]}
    found = summarise_cells(CELL, times, workers=2)
    ratios = {(row["label"], row["against"]): row for row in found["ratios"]}
    assert ratios["2 workers", "Trainer"]["values"] == [20.0, 10.0, 30.0]
    assert ratios["1 worker", "Trainer"]["median"] == 10.0
    assert ratios["2 workers", "1 worker"]["median"] == 2.0
    assert found["sides"][0]["cells_per_minute"]["max"] == 60.0
    assert [side["workers"] for side in found["sides"]] == [2, 1, None]


def test_warm_worker_and_trainer_process_both_do_cells(tmp_path):
    found = measure_cells(CELL, tmp_path, workers=1, per_worker=1, pairs=1, say=lambda _: None)
    assert [side["label"] for side in found["sides"]] == ["1 worker", "Trainer"]
    assert all(side["seconds_per_cell"]["median"] > 0 for side in found["sides"])
    assert [(row["label"], row["against"]) for row in found["ratios"]] == [("1 worker", "Trainer")]
    assert len(list((tmp_path / "store").glob("??/*/record.json"))) == 2  # one to warm up, one that counts


def test_side_process_reports_a_failure_and_goes_on():
    side = SideProcess("engine")
    try:
        with pytest.raises(RunFailed, match="no method 'nobody'"):
            side.ask(as_request("engine", dataclasses.replace(WORK, method="nobody")))
        assert side.ask(as_request("engine", WORK))["tokens"] == 10 * 8 * 32
    finally:
        side.close()
