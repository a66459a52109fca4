from __future__ import annotations

import json

import pytest

from ctbench.speed.cases import Case, run_case
from ctbench.speed.scaling import AXES, keep_scaling, measure_scaling, summarise

pytestmark = pytest.mark.slow


def given(case):
    """A run whose time is as its tokens and whose memory is flat."""
    tokens = 1_000.0 * case.domains * case.seeds
    return {
        "wall_seconds": tokens / case.workers,
        "cpu_seconds": tokens + case.megabytes,
        "peak_memory_bytes": 2**20,
        "megabytes": case.megabytes,
        "nodes": 3,
        "tokens": tokens,
        "numbers": f"{case.domains} {case.megabytes:g} {case.seeds}",
    }


@pytest.fixture(scope="module")
def document():
    return measure_scaling(quick=False, say=lambda _: None, run=given)


def test_every_axis_starts_from_the_common_case(document):
    for axis in AXES:
        rows = [row for row in document["rows"] if row["axis"] == axis.name]
        assert [row["value"] for row in rows] == list(axis.full)
        assert rows[0]["numbers"] == "2 1 1"


def test_growth_is_the_last_case_relative_to_the_first(document):
    growth = {row["axis"]: row for row in document["growth"]}
    assert growth["domains"]["work"] == 8.0
    assert growth["domains"]["time_over_work"] == pytest.approx(1.0, rel=1e-3)
    assert growth["megabytes"]["work"] == 100.0
    assert growth["megabytes"]["time_over_work"] < 0.02
    assert growth["workers"]["wall_seconds"] == 0.25
    assert growth["seeds"]["peak_memory_bytes"] == 1.0


def test_study_shows_whether_workers_change_the_numbers(document):
    growth = {row["axis"]: row for row in document["growth"]}
    assert growth["workers"]["same_numbers"]
    assert growth["seeds"]["same_numbers"] is None  # another seed is other numbers
    axis = AXES[-1]
    rows = [{**given(Case(workers=count)), "numbers": str(count)} for count in (1, 2)]
    assert summarise(axis, rows)["same_numbers"] is False


def test_study_is_written_as_json_csv_markdown_and_plot(document, tmp_path):
    paths = keep_scaling(document, path=tmp_path / "bench" / "scaling.json")
    assert [path.name for path in paths] == ["scaling.json", "scaling.csv", "scaling.md", "scaling.png"]
    assert json.loads(paths[0].read_text())["growth"] == document["growth"]
    assert len(paths[1].read_text().splitlines()) == 1 + len(document["rows"])
    assert "| domains" in paths[2].read_text()
    assert paths[3].read_bytes().startswith(b"\x89PNG")
    assert keep_scaling(document, path=None) == []


def test_case_is_a_whole_run():
    found = run_case(Case(megabytes=0.1, stage_tokens=2_048))
    assert found["nodes"] == 2 + 3 + 6  # stages, LM losses, cells
    assert found["cpu_seconds"] > 0
    assert found["peak_memory_bytes"] > 2**26
    assert found["megabytes"] == pytest.approx(0.1, rel=0.05)
    stages, cells = 2 * 2_048, 6 * 2 * 64 * 22
    assert stages + cells < found["tokens"] < stages + cells + 3 * 2 * 2_048
