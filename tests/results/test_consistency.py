"""A result whose numbers contradict each other is no result."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_results import fake_record

import ctbench
from ctbench.errors import BadResult
from ctbench.results.consistency import contradiction
from ctbench.results.files import read_results
from ctbench.results.format import result_from

ROOT = Path(ctbench.__file__).parent.parent / "results"


@pytest.mark.parametrize("folder", ["", "ablations", "precision"])
def test_every_committed_result_agrees_with_itself(folder):
    loaded = read_results(ROOT / folder)
    assert loaded.skipped == ()
    assert loaded.results
    assert [result.path for result in loaded.results if contradiction(result)] == []


@pytest.mark.parametrize("shape", ["chain", "joint", "separate"])
def test_a_result_that_agrees_is_read(shape):
    assert contradiction(result_from(fake_record(shape=shape))) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record["matrix"][1].__setitem__(1, record["matrix"][1][1] + 1e-6), "own cells: row 1 kitchen"),
        (lambda record: record["matrix"][1].__setitem__(1, None), "own cells: row 1 kitchen"),
        (lambda record: record["cells"][0].update(score=0.123), "own cells: row 0 harbour"),
        (lambda record: record["metrics"].update(F_Acc=0.99), "the metrics contradict the matrix: F_Acc"),
        (lambda record: record["metrics"].update(F_Acc=None), "the metrics contradict the matrix: F_Acc"),
    ],
)
def test_a_result_that_contradicts_itself_is_refused(change, words):
    record = fake_record()
    change(record)
    with pytest.raises(BadResult, match=words):
        result_from(record)


def test_a_cell_without_a_score_contradicts_nothing():
    record = fake_record()
    record["cells"][0]["score"] = None
    assert contradiction(result_from(record)) is None
