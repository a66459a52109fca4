"""The plug-ins of results/studies: oracles, which are told the domain, and naive with a part of the LM trained."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from method_helpers import build, make_loop, naive, same_state, slow, train, train_stream

from ctbench.laws import LAWS, RUNS, judge
from ctbench.laws.world import tiny_world
from ctbench.method import Method
from ctbench.plugins.find import find_plugin, get_method, load_class

FOLDER = Path(__file__).parents[2] / "results" / "studies" / "methods"
ORACLES = [str(FOLDER / f"{name}.py") for name in ("oracle_map", "oracle_prompt")]
PART = str(FOLDER / "part.py")


def name_of(path):
    return Path(path).stem


@pytest.fixture(scope="module", params=ORACLES, ids=name_of)
def oracle(request):
    return get_method(request.param)


@pytest.fixture(scope="module")
def stages(small, oracle):
    return train_stream(oracle, small.base, small.stream, small.blocks)


def some_text(small):
    return make_loop(naive(), small.base, small.first).stage.start_step(0)


def logits_of(backbone, batch, **options):
    with torch.no_grad():
        return backbone.eval()(batch, **options).logits


@pytest.fixture(scope="module", params=["mlm", "clm"])
def world(request):
    with tiny_world(request.param) as made:
        yield made


def broken_by(path, world):
    verdicts = judge(load_class(find_plugin("method", path)), world, name_of(path))
    assert [verdict.law for verdict in verdicts] == [RUNS, *LAWS]
    return {verdict.law: verdict.line for verdict in verdicts if not verdict.holds}


@pytest.mark.parametrize("path", [ORACLES[0], *slow(ORACLES[1])], ids=name_of)
def test_oracles_keep_every_law(path, world):
    assert broken_by(path, world) == {}


@pytest.mark.slow
def test_part_keeps_every_law_but_scores_the_domain_just_learned_alone(world):
    broken = broken_by(PART, world)
    assert set(broken) == {"honesty"}
    assert broken["honesty"].startswith("the cells of row 1 fine-tune different LMs")


@pytest.mark.parametrize("path", [ORACLES[0], *slow(ORACLES[1])], ids=name_of)
def test_an_oracle_that_hides_what_it_is_told_breaks_the_law_of_honesty(path, world):
    cls = load_class(find_plugin("method", path))
    kept = {"__annotations__", "__module__"}
    own = {key: value for key, value in vars(cls).items() if key in kept or not key.startswith("__")}
    silent = type("Silent", (Method,), {**own, "traits": Method.traits})
    verdicts = judge(silent, world, "silent")
    assert "honesty" in {verdict.law for verdict in verdicts if not verdict.holds}


def test_a_cell_runs_under_the_condition_of_its_task(small, oracle, stages):
    batch, conditions = some_text(small), []
    for number, name in enumerate(small.stream.names, start=1):
        backbone = oracle.adapt(copy.deepcopy(stages[2][0]), small.stream, name, number)
        own = stages[2][0].added["conditions"].make(number - 1)
        conditions.append(logits_of(backbone, batch))
        assert torch.equal(conditions[-1], logits_of(stages[2][0], batch, prompt=own))
    assert not torch.equal(*conditions), "the domains have conditions that differ"
    assert oracle.configured_traits.needs_domain


def test_a_domain_that_no_stage_trained_on_has_no_condition(small, oracle, stages):
    batch, (first, second) = some_text(small), small.stream.names
    for name, has_none in ((second, True), (first, False)):
        backbone = oracle.adapt(copy.deepcopy(stages[1][0]), small.stream, name, 1)
        bare = logits_of(backbone, batch, prompt=None)
        assert torch.equal(logits_of(backbone, batch), bare) == has_none


def test_only_the_lm_trains_in_a_cell(small, oracle, stages):
    backbone = oracle.adapt(copy.deepcopy(stages[2][0]), small.stream, small.stream.names[0], 2)
    assert {name for name, _ in backbone.trainable()} == {name for name, _ in small.base.named_parameters()}


def conditioned(oracle, stage, steps):
    """Return for each update whether its agreement is under a condition, which then has a gradient."""
    oracle.begin(stage)
    table = stage.backbone.added["conditions"]
    found = []
    for step in range(steps):
        agree = oracle.loss(stage, stage.start_step(step))["agree"]
        gradients = torch.autograd.grad(agree, list(table.parameters()), allow_unused=True)
        found.append(any(gradient is not None for gradient in gradients))
    return found


def test_the_lm_agrees_under_none_and_under_past_conditions_in_turn(small, oracle, stages):
    first = make_loop(oracle, stages[0][0], small.first, num_steps=12).stage
    second = make_loop(oracle, stages[1][0], small.second, num_steps=12).stage
    assert not any(conditioned(oracle, first, 12)), "there is no past"
    assert 2 <= sum(conditioned(oracle, second, 12)) <= 10


def test_a_map_that_does_not_move_without_agreement_is_naive(small):
    oracle = get_method(ORACLES[0], gain=0.0, agree_weight=0.0)
    after, _, record = train(oracle, build(oracle, small.base, small.stream), small.first)
    other = dataclasses.replace(oracle, gain=16.0)
    moving, _, _ = train(other, build(other, small.base, small.stream), small.first)
    theirs, _, _ = train(naive(), build(naive(), small.base, small.stream), small.first)
    wanted = theirs.state()
    assert record.losses.keys() == {"loss", "lm"}
    assert all(torch.equal(after.state()[name], weight) for name, weight in wanted.items())
    assert not all(torch.equal(moving.state()[name], weight) for name, weight in wanted.items())


def changed(small, trains):
    method = get_method(PART, trains=trains)
    after, _, _ = train(method, build(method, small.base, small.stream), small.first)
    base = small.base.state()
    return {name for name, weight in after.state().items() if not torch.equal(weight, base[name])}


def test_part_trains_what_it_says_and_the_parts_make_the_whole(small):
    words, rest, layers, every = (changed(small, trains) for trains in ("words", "rest", "layers", "all"))
    assert words
    assert all("tok_embeddings" in name or "decoder" in name for name in words)
    assert layers
    assert all(".layers." in name for name in layers)
    assert layers < rest
    assert words.isdisjoint(rest)
    assert words | rest == every


def test_part_with_everything_trained_is_naive_bit_for_bit(small):
    method = get_method(PART, trains="all")
    ours = train_stream(method, small.base, small.stream, small.blocks)
    theirs = train_stream(naive(), small.base, small.stream, small.blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True))


def test_part_scores_the_domain_just_learned_alone(small):
    plan, (one, other) = get_method(PART).plan(small.stream), (1, 2)
    assert plan.cells == ((0, 0), (one, None), (None, other))


def test_a_cell_of_part_trains_everything(small):
    method = get_method(PART)
    built = build(method, small.base, small.stream)
    adapted = method.adapt(copy.deepcopy(built), small.stream, small.stream.names[0], 1)
    every = {name for name, _ in small.base.named_parameters()}
    assert {name for name, _ in adapted.trainable()} == every
    assert {name for name, _ in built.trainable()} < every
