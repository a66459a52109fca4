from __future__ import annotations

from dataclasses import replace

from method_helpers import make_stream, naive, same_state, train_stream

from ctbench.plans import BASE
from ctbench.plugins.find import get_method


def test_plan_serves_each_task_from_its_own_stage_once_it_was_trained(tmp_path):
    plan = get_method("separate").plan(make_stream(tmp_path, num_domains=3))
    assert plan.stages == (("domain-1",), ("domain-2",), ("domain-3",))
    assert plan.parents == (BASE, BASE, BASE)
    assert plan.cells == ((0, 0, 0), (1, 0, 0), (1, 2, 0), (1, 2, 3))


def test_each_stage_is_naives_first_stage_on_that_domain(small):
    separate = train_stream(get_method("separate"), small.base, small.stream, small.blocks)
    for number, domain in enumerate(small.stream.domains, start=1):
        alone = replace(small.stream, domains=(domain,))
        first = train_stream(naive(), small.base, alone, small.blocks)[1]
        assert same_state(separate[number][0], first[0])


def test_second_stage_differs_from_naives_second_stage(small):
    separate = train_stream(get_method("separate"), small.base, small.stream, small.blocks)
    sequential = train_stream(naive(), small.base, small.stream, small.blocks)
    assert same_state(separate[1][0], sequential[1][0])
    assert not same_state(separate[2][0], sequential[2][0])
