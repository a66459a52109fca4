"""Every discovered method keeps every law; a method that breaks a law fails that law and no other."""

from __future__ import annotations

import pytest
from broken_methods import BREAKS
from method_helpers import QUICK, core_first

from ctbench.errors import BadConfig, UnknownName
from ctbench.laws import LAWS, RUNS, check_method, judge
from ctbench.laws.world import tiny_world
from ctbench.method import Method, hyper
from ctbench.plans import Plan
from ctbench.plugins.find import find_plugins, load_class

VARIANTS = [
    ("adapters", {"per_domain": True, "cell_trains": "added"}),
    ("das", {"importance_blocks": 8, "damps": "update", "contrast_weight": 0.0}),
    ("ewc", {"num_examples": 4, "decay": 0.5}),
    ("demix", {"cell_trains": "expert"}),
    ("expand", {"blocks": "existing", "cell_trains": "blocks"}),
    ("hat", {"sparsity_weight": 0.0, "cell_trains": "added"}),
    ("hyperprompt", {"num_components": 1, "places": "input", "agree_on": "hidden", "disagree_on": "hidden"}),
    ("hypermap", {"num_maps": 2, "places": "in", "reads": "single", "context": "random", "cell_trains": "all"}),
    ("lora", {"per_domain": True, "cell_trains": "added"}),
    ("merge", {"num_branches": 4, "num_rounds": 1, "merges": "slerp"}),
    ("olora", {"weight": 0.0, "cell_trains": "added"}),
    ("osf", {"frozen_fraction": 0.9, "growth": 0.2}),
    ("replay", {"source": "general"}),
    ("prompts", {"deep": False, "cell_trains": "added"}),
]


@pytest.fixture(scope="module", params=["mlm", "clm"])
def world(request):
    with tiny_world(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def encoder():
    with tiny_world("mlm") as made:
        yield made


def found(verdicts):
    assert [verdict.law for verdict in verdicts] == [RUNS, *LAWS]
    return {verdict.law: verdict.line for verdict in verdicts if not verdict.holds}


@pytest.mark.parametrize("name", core_first(find_plugins("method")))
def test_method_keeps_every_law(name, world):
    cls = load_class(find_plugins("method")[name])
    assert found(judge(cls, world, name, QUICK.get(name))) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_method_keeps_every_law_under_other_settings(name, settings, encoder):
    assert found(judge(load_class(find_plugins("method")[name]), encoder, name, settings)) == {}


@pytest.mark.parametrize(("law", "cls"), [(law, cls) for law, classes in BREAKS.items() for cls in classes])
def test_broken_method_fails_exactly_its_law(law, cls, encoder):
    verdicts = judge(cls, encoder)
    assert [verdict.law for verdict in verdicts if verdict.holds is False] == [law]
    line = next(verdict.line for verdict in verdicts if verdict.law == law)
    assert "\n" not in line
    assert len(line) < 250


def test_every_law_has_a_method_that_breaks_it():
    assert BREAKS.keys() == LAWS.keys()


def test_resume_is_not_judged_if_two_equal_runs_differ(encoder):
    verdicts = {verdict.law: verdict for verdict in judge(BREAKS["determinism"][0], encoder)}
    assert verdicts["resume"].holds is None
    assert "differ already" in verdicts["resume"].line


class Raises(Method):
    def end(self, stage):
        raise KeyError("oops")


class OnlyEncoders(Method):
    weight: float = hyper(1.0, low=0.0)
    """A weight."""

    def build(self, backbone, stream):
        if backbone.objective == "clm":
            raise BadConfig("a masked LM is wanted")
        return backbone


def test_exception_of_a_method_becomes_one_line_with_file_and_line_number():
    verdicts = check_method(Raises)
    assert verdicts[0].holds is False
    assert verdicts[0].line.startswith("stage 1: KeyError: 'oops' (test_laws.py:")
    assert all(verdict.holds is None for verdict in verdicts[1:])


class BuildsNone(Method):
    def build(self, backbone, stream):
        backbone.requires_grad_(False)


class Diverges(Method):
    def loss(self, stage, batch):
        return {"lm": stage.backbone(batch).loss * float("nan")}


class PlansTooLittle(Method):
    def plan(self, stream):
        return Plan(stages=(stream.names,), parents=(0,), cells=((0, 0), (1, 1)))


class NeedsTwoDomains(Method):
    def plan(self, stream):
        assert stream.names[1]
        return super().plan(stream)


def test_method_that_raises_inside_a_law_breaks_that_law(encoder):
    verdicts = judge(NeedsTwoDomains, encoder)
    assert found(verdicts).keys() == {"size"}
    assert found(verdicts)["size"].startswith("plan: IndexError: tuple index out of range (test_laws.py:")


@pytest.mark.parametrize(
    ("cls", "line"),
    [
        (BuildsNone, "build returns a NoneType; the backbone is wanted"),
        (Diverges, "training diverged in update 1: loss is nan, lm is nan"),
        (PlansTooLittle, "a plan's cells have 2 rows of 2; 2 domains need 3 rows of 2"),
    ],
)
def test_method_that_cannot_run_is_reported_in_one_line(cls, line, encoder):
    verdicts = judge(cls, encoder)
    assert [verdict.holds for verdict in verdicts] == [False] + [None] * len(LAWS)
    assert verdicts[0].line.startswith(line)


def test_method_may_reject_decoders_and_the_verdict_says_so():
    verdicts = check_method(OnlyEncoders)
    assert all(verdict.holds for verdict in verdicts)
    assert "on a tiny decoder: refused: a masked LM is wanted" in verdicts[0].line


def test_invalid_settings_raise_the_usual_errors(encoder):
    with pytest.raises(BadConfig, match=r"weight of mine: must be a finite number of at least 0.0, found -1"):
        judge(OnlyEncoders, encoder, "mine", {"weight": -1})
    with pytest.raises(UnknownName, match="weight"):
        judge(OnlyEncoders, encoder, "mine", {"wieght": 1})
