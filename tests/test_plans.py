from __future__ import annotations

import pytest

from ctbench.errors import BadPlugin
from ctbench.plans import BASE, Plan, one_per_domain, sequential


def test_sequential_plan_trains_each_domain_from_the_stage_before():
    plan = sequential(["a", "b", "c"])
    assert plan.stages == (("a",), ("b",), ("c",))
    assert plan.parents == (BASE, 1, 2)
    assert plan.cells == ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3))


@pytest.mark.parametrize(
    ("parents", "cells", "words"),
    [
        ((1,), ((0,), (1,)), "starts from 1"),
        ((0,), ((0,), (2,)), "does not have"),
        ((0,), ((1,), (1,)), "row 0"),
        ((0,), ((0,), (1, 1)), "differ in length"),
        ((0, 0), ((0,), (1,)), "2 parents"),
    ],
)
def test_impossible_plan_is_refused(parents, cells, words):
    with pytest.raises(BadPlugin, match=words):
        Plan(stages=(("a",),), parents=parents, cells=cells)


def test_one_per_domain_serves_a_task_from_its_own_stage_once_it_was_trained():
    plan = one_per_domain(["a", "b", "c"])
    assert plan.parents == (0, 0, 0)
    assert plan.cells == ((0, 0, 0), (1, 0, 0), (1, 2, 0), (1, 2, 3))
    assert one_per_domain(["a", "b", "c"], goes_on=True).parents == (0, 1, 2)


def test_kept_are_the_lms_that_the_last_row_needs():
    assert one_per_domain(["a", "b"]).kept == {1, 2}
    assert one_per_domain(["a", "b"], goes_on=True).kept == {2}
    assert sequential(["a", "b"]).kept == {2}


def test_plan_of_another_stream_is_refused():
    plan = sequential(["a", "b"])
    assert plan.fitting(["a", "b"]) is plan
    with pytest.raises(BadPlugin, match="have 3 rows of 2; 3 domains need 4 rows of 3"):
        plan.fitting(["a", "b", "c"])
    with pytest.raises(BadPlugin, match=r"trains on \['b'\]; known: a, c"):
        plan.fitting(["a", "c"])
