"""Any file in a folder of results is a result or is skipped with one line; it never hides the others."""

from __future__ import annotations

import json

import pytest
from fake_results import fake_record
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, EDITS, dump, edit, mutate, outcome

import ctbench
from ctbench.errors import CTBenchError
from ctbench.reporting.summary import describe
from ctbench.results.checks import CHECKS
from ctbench.results.files import read_results
from ctbench.results.format import result_from, to_text
from ctbench.results.writing import write_result
from ctbench.tuning.record import read_tuning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one good result, and beside it one that is made up."""
    root = tmp_path_factory.mktemp("results")
    write_result(result_from(fake_record("naive", num_tasks=2)), root)
    return root


RECORDS = [fake_record(method, num_tasks=2, shape=shape) for method, shape in [("replay", "chain"), ("joint", "joint")]]


def look_at_everything(folder):
    """Read a folder, and everything that shows a result; the good result is always among them."""
    loaded = read_results(folder)
    assert "naive" in {result.method.name for result in loaded.results}
    assert len(loaded.results) + len(loaded.skipped) == 2
    assert all("\n" not in line and line.strip() for line in loaded.skipped)
    for result in loaded.results:
        list(describe(result, explain=True))
        for check in CHECKS:
            list(check.look(result))
        assert to_text(result)
    with pytest.warns() if loaded.skipped else _nothing():
        assert len(ctbench.load_results(folder)) == len(loaded.results)
    comparison = outcome(lambda: ctbench.compare(folder, all=True, partial=True))
    if not isinstance(comparison, CTBenchError):
        assert comparison.record()["tables"]
        assert comparison._repr_html_()
    return loaded


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@given(st.sampled_from(RECORDS), EDITS)
def test_result_whose_values_are_changed(folder, record, edits):
    (folder / "a.json").write_bytes(dump(edit(record, edits)))
    outcome(lambda: look_at_everything(folder), folder=folder)


@given(st.sampled_from(RECORDS), CHANGES)
def test_result_whose_bytes_are_changed(folder, record, changes):
    (folder / "a.json").write_bytes(mutate(json.dumps(record).encode(), changes))
    outcome(lambda: look_at_everything(folder), folder=folder)


def test_the_results_that_are_changed_are_good_before(folder):
    for record in RECORDS:
        (folder / "a.json").write_bytes(dump(record))
        assert look_at_everything(folder).skipped == ()


@given(EDITS, CHANGES)
def test_tuning_file(folder, tuning, edits, changes):
    path = folder / "tuning.txt"
    path.write_bytes(mutate(dump(edit(tuning, edits)), changes))
    outcome(lambda: (lambda found: (found.advice, found.record()))(read_tuning(path)))


@pytest.fixture(scope="module")
def tuning():
    from pathlib import Path

    (path, *_) = sorted((Path(ctbench.__file__).parent.parent / "results" / "tuning").rglob("*.json"))
    return json.loads(path.read_text(encoding="utf-8"))
