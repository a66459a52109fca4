"""Scores are shares in [0, 1] but for correlations, which are in [-1, 1]."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_results import fake_record

from ctbench.errors import BadResult
from ctbench.reporting.summary import matrix_table
from ctbench.results.format import parse, result_from
from ctbench.results.metrics import all_metrics


def with_score(metric, score):
    record = fake_record("naive", num_tasks=2)
    first, second = record["stream"]["domains"]
    record["stream"] |= {"metric": {first: metric, second: "accuracy"}, "tasks": {first: "x", second: "y"}}
    record["stream"] |= {"num_test": {first: 100, second: 100}, "baseline": {first: 0.0, second: 0.5}}
    record["matrix"][2][0] = score
    record["cells"], record["metrics"] = [], all_metrics(np.array(record["matrix"], dtype=float))
    return record


def test_a_correlation_may_be_negative_and_has_no_sampling_error_of_a_share():
    table = matrix_table(result_from(with_score("pearson", -0.25)), details=True)
    lines = {row[0].text: [cell.text.strip() for cell in row[1:]] for row in table.rows}
    assert table.columns[1].endswith(", Pearson's r")
    assert lines["sampling error"][0] == "± –"
    assert lines["sampling error"][1] != "± –"
    assert lines["trivial baseline"] == ["0.0", "50.0"]
    assert any("-25.0" in cell for line in lines.values() for cell in line)


@pytest.mark.parametrize(
    ("metric", "score"), [("pearson", -1.5), ("accuracy", -0.25), ("span_f1", -0.1), ("pearson", 1.1)]
)
def test_a_score_outside_of_its_range_is_corrupt(metric, score):
    with pytest.raises(BadResult, match=r"matrix: a score is outside \[(-1|0), 1\]"):
        parse(json.dumps(with_score(metric, score)).encode(), "x.json")
