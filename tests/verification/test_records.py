"""`ctbench verify` refuses a result whose records are not those that its plan asks for: what has no record is never drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ctbench
from ctbench.engine.graph import read_runs
from ctbench.results.files import read_results
from ctbench.results.format import result_from, to_record
from ctbench.results.metrics import all_metrics
from ctbench.verification.claims import contradictions
from ctbench.verification.records import lacking, unverified
from ctbench.verification.verify import Request, _job

ROOT = Path(ctbench.__file__).parent.parent / "results" / "domain" / "tiny"


@pytest.fixture(scope="module", params=["naive", "separate", "joint"])
def handed_in(request):
    """Return a committed result and its run here: a chain, a plan of several LMs in a row, one with absent cells."""
    result = next(result for result in read_results(ROOT / request.param).results if not result.changed)
    (run,) = read_runs([_job(Request(result=result))])
    return result, run


def doctored(result, change):
    """Return the result after a change of its record that reading it does not notice: the metrics are made to fit."""
    record = to_record(result)
    change(record)
    matrix = np.array(record["matrix"], dtype=float)
    return result_from(record | {"metrics": all_metrics(matrix, num_stages=len(record["plan"]["stages"]))})


def drop_last_row(record):
    last = len(record["matrix"]) - 1
    record["cells"] = [cell for cell in record["cells"] if cell["row"] != last]
    record["matrix"][last] = [0.99] * last


def double(record):
    cell = record["cells"][-1]
    record["cells"].insert(0, cell | {"score": 1.0, "metrics": {}, "key": "0" * 64})
    scores = [
        each["score"] for each in record["cells"] if (each["row"], each["domain"]) == (cell["row"], cell["domain"])
    ]
    record["matrix"][-1][-1] = sum(scores) / len(scores)


def null_score(record):
    record["cells"][-1] |= {"score": None, "metrics": {}}
    record["matrix"][-1][-1] = 0.99


def other_score(record):
    """Raise a score and leave the metrics beside it, one of which is the same number."""
    name = record["cells"][-1]["domain"]
    cells = [cell for cell in record["cells"] if (cell["row"], cell["domain"]) == (len(record["matrix"]) - 1, name)]
    for cell in cells:
        cell["score"] = 0.99
    record["matrix"][-1][-1] = 0.99


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_last_row, "cells: no record of row 5 domain-1 seed 0, row 5 domain-1 seed 1, "),
        (drop_last_row, "matrix: a score without scores of its cells in row 5 domain-1, row 5 domain-2, "),
        (double, "cells: more records than the plan and its seeds ask for, of row 5 domain-5 seed 1"),
        (null_score, "cells: no score of row 5 domain-5 seed 1, though the result names no failure"),
        (null_score, "matrix: a score without scores of its cells in row 5 domain-5"),
        (other_score, "cells: the score is not the task's own metric in row 5 domain-5 seed 0, row 5 domain-5 seed 1"),
        (lambda record: record["lm_loss"].__setitem__(5, [None] * 5), "lm_loss: no loss in row 5 domain-1, "),
        (lambda record: record["general_loss"].__setitem__(5, None), "general_loss: no loss in row 5, "),
        (lambda record: record.update(stages=[]), "stages: no record of stage 1"),
        (
            lambda record: record["stages"].append(record["stages"][0]),
            "stages: more records than the plan asks for, of stage 1",
        ),
        (
            lambda record: record["stages"][0].update(domains=["domain-9"]),
            "stages: other domains than the plan's in stage 1",
        ),
        (lambda record: record["cost"].update(flops=1.0), "cost flops: 1.0 in the result, "),
        (lambda record: record["cost"].update(flops=None), "cost flops: absent in the result, "),
        (lambda record: record["cost"].update(forward_tokens=1), "cost forward_tokens: 1 in the result, "),
        (lambda record: record["cost"].update(added_parameters=7), "cost added_parameters: 7 in the result, "),
        (lambda record: record["cost"].update(tokens=1), "cost tokens: 1 in the result, "),
    ],
)
def test_a_result_that_hides_records_or_says_other_costs_than_they_add_up_to_is_found(change, said, handed_in):
    result, run = handed_in
    assert contradictions(result, run) == []
    found = contradictions(doctored(result, change), run)
    assert any(line.startswith(said) for line in found), found


def test_numbers_in_places_for_which_the_plan_has_no_lm_are_found():
    result = next(result for result in read_results(ROOT / "joint").results if not result.changed)
    (run,) = read_runs([_job(Request(result=result))])

    def fill(record):
        record["matrix"][2] = [0.9] * 5
        record["lm_loss"][2] = [1.0] * 5
        record["general_loss"][2] = 1.0

    found = lacking(doctored(result, fill), run)
    assert [line.partition(":")[0] for line in found] == ["matrix", "lm_loss", "general_loss"]


def test_rows_that_share_an_lm_must_agree_whatever_keys_they_name():
    result = next(result for result in read_results(ROOT / "separate").results if not result.changed)
    (run,) = read_runs([_job(Request(result=result))])

    def raise_the_last_row(record):
        for cell in record["cells"]:
            if (cell["row"], cell["domain"]) == (5, "domain-1"):
                cell |= {"key": "0" * 63 + str(cell["finetune_seed"]), "score": 0.99}
                cell["metrics"]["accuracy"] = 0.99
        record["matrix"][5][0] = 0.99
        record["lm_loss"][5][0] = 0.1

    found = lacking(doctored(result, raise_the_last_row), run)
    assert any(line.startswith("cells: rows give different scores of one and the same node") for line in found)
    assert any(
        line.startswith("lm_loss: rows give different losses of one and the same LM (stage 1 domain-1)")
        for line in found
    )


def test_an_incomplete_result_may_lack_what_its_failures_cost():
    result = next(result for result in read_results(ROOT / "naive").results if not result.changed)
    (run,) = read_runs([_job(Request(result=result))])

    def fail(record):
        cell = record["cells"][-1]
        record["cost"]["cell_seconds"] -= cell["seconds"]
        record["cost"]["cell_flops"] -= cell["flops"]
        cell |= {"score": None, "metrics": {}, "seconds": None, "flops": None}
        record["matrix"][-1][-1] = None
        record["failures"] = [{"node": "cell", "key": cell["key"], "reason": "out of memory"}]

    assert lacking(doctored(result, fail), run) == []


def test_what_is_not_verified_is_said():
    result = next(result for result in read_results(ROOT / "naive").results if not result.changed)
    assert unverified(result).endswith("scores and losses of the control")
    assert "the control" not in unverified(doctored(result, lambda record: record.update(control=None)))
