from __future__ import annotations

import pytest

from ctbench.errors import BadPlugin
from ctbench.plan import BASE, Plan, sequential


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
