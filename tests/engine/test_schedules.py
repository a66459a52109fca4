"""Schedules that cross stages, through the engine: trunks and branches as nodes, resuming, and the rates in a result."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from method_helpers import slow
from small_streams import spec_of, write_stream

from ctbench.engine.compute import Executor
from ctbench.engine.job import Job
from ctbench.engine.node import NODE_SCHEMA, digest, in_order, library_versions
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig
from ctbench.machine.device import autocast, isolated
from ctbench.method import Method
from ctbench.stage import Stage, StageInputs
from ctbench.training.optimizer import make_optimizer

INFINITE = {"pretrain.schedule": "infinite", "pretrain.anneal_fraction": 0.4}
CARRIED = INFINITE | {"pretrain.carry_optimizer": True}
N, TRUNK = 30, 18


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedules")
    write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))


def go(place, method="naive", seed=0, **settings):
    job = Job(method=method, stream=place / "small.toml", results=place / "results", workers=0, seed=seed, set=settings)
    return run(job)[0]


def computed(place, settings, method="naive"):
    """Compute every trunk and stage of a run; return the run and an executor that can read them."""
    graph = spec_of(place / "small.toml", method, settings=settings)
    executor = Executor(Store(home() / "store"), home() / "corpora")
    for node in in_order([*graph.trunks, *graph.stages]):
        executor.compute(node.spec())
    return graph, executor


def weights(executor, node):
    lookup, identity = node.lookup, node.identity
    method = executor.materials.method(lookup, identity.method)
    return executor.materials.restore(lookup, method, identity.build_seed, node.key)[0].state()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plain_loop(executor, graph, spans, rate, *, carries):
    """Train the base by a loop of its own: over each (stage, first, last), at rate(stage, step)."""
    node = graph.stages[0]
    materials, recipe = executor.materials, graph.stream.recipe.pretrain
    backbone = copy.deepcopy(materials.base(node.lookup)[0])
    optimizer = make_optimizer(list(backbone.parameters()), lr=recipe.lr, weight_decay=0.0)
    for number, first, last in spans:
        if not carries:
            optimizer = make_optimizer(list(backbone.parameters()), lr=recipe.lr, weight_decay=0.0)
        (name,) = graph.plan.stages[number]
        blocks = {name: materials.blocks(node.lookup, name, recipe.length)}
        inputs = StageInputs(
            backbone=backbone, memory={}, blocks=blocks, recipe=recipe, num_steps=N, seed=0, load_teacher=lambda: None
        )
        stage = Stage(inputs)
        backbone.train()
        with isolated(threads=1):
            for step in range(first, last):
                batch = stage.start_step(step)
                for group in optimizer.param_groups:
                    group["lr"] = rate(number, step)
                with autocast("fp32", stage.device):
                    backbone(batch).loss.backward()
                torch.nn.utils.clip_grad_norm_(backbone.parameters(), recipe.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    return backbone.state()


def trunk_rate(number, step):
    return 1e-3 * (step + 1) / 3 if number == 0 and step < 3 else 1e-3


@pytest.mark.parametrize("carries", [True, False])
def test_stage_2_goes_on_bit_for_bit_from_the_trunk(place, carries):
    graph, executor = computed(place, CARRIED if carries else INFINITE)
    wanted = plain_loop(executor, graph, [(0, 0, TRUNK), (1, 0, TRUNK)], trunk_rate, carries=carries)
    assert same(weights(executor, graph.trunks[1]), wanted)
    through_the_branch = plain_loop(executor, graph, [(0, 0, N), (1, 0, TRUNK)], trunk_rate, carries=carries)
    assert not same(weights(executor, graph.trunks[1]), through_the_branch)


def test_a_row_is_the_trunk_and_annealed_updates_on_the_rest_of_the_stage(place):
    def rate(number, step):
        return trunk_rate(number, step) if step < TRUNK else 1e-3 * 0.1 ** ((step - TRUNK) / (N - TRUNK))

    graph, executor = computed(place, CARRIED)
    assert same(weights(executor, graph.stages[0]), plain_loop(executor, graph, [(0, 0, N)], rate, carries=True))
    second = plain_loop(executor, graph, [(0, 0, TRUNK), (1, 0, N)], rate, carries=True)
    assert same(weights(executor, graph.stages[1]), second)
    assert not same(weights(executor, graph.stages[1]), weights(executor, graph.trunks[1]))


@pytest.mark.slow
def test_carrying_the_optimizer_over_is_one_run_of_adam(place):
    settings = {"pretrain.schedule": "constant", "pretrain.warmup_fraction": 0.0}
    graph, executor = computed(place, settings | {"pretrain.carry_optimizer": True})
    spans = [(0, 0, N), (1, 0, N)]
    wanted = plain_loop(executor, graph, spans, lambda *_: 1e-3, carries=True)
    assert same(weights(executor, graph.stages[1]), wanted)
    fresh, executor = computed(place, settings)
    assert same(weights(executor, fresh.stages[1]), plain_loop(executor, fresh, spans, lambda *_: 1e-3, carries=False))
    assert not same(weights(executor, fresh.stages[1]), wanted)


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["replay", *slow("naive", "ewc", "lwf")])
@pytest.mark.parametrize("part", ["trunk", "branch"])
def test_a_trunk_or_a_branch_that_is_killed_resumes_and_ends_bit_for_bit(place, tmp_path, method, part):
    settings = CARRIED | ({"method.num_examples": 4} if method == "ewc" else {})
    graph, whole = computed(place, settings, method)
    node = (graph.trunks if part == "trunk" else graph.stages)[1]
    broken = Executor(Store(tmp_path / "broken"), home() / "corpora", save_seconds=0.0)
    for before in in_order([node])[:-1]:
        broken.compute(before.spec())

    def kill(step, num_steps, loss):
        if step >= (18 if part == "trunk" else 30):
            raise Killed

    with pytest.raises(Killed):
        broken.compute(node.spec(), kill)
    assert any(broken.store.checkpoints(node.key).iterdir())
    broken.compute(node.spec())
    records = [executor.store.read(node.key) for executor in (whole, broken)]
    assert records[0].weights_digest == records[1].weights_digest
    assert records[0].training.losses == records[1].training.losses
    assert records[0].training.forward_tokens == records[1].training.forward_tokens
    assert records[0].training.flops == records[1].training.flops > 0
    for name in ("memory.json", "weights.safetensors"):
        files = [executor.store.folder(node.key) / name for executor in (whole, broken)]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_two_runs_under_infinite_give_the_same_result_and_its_budget_is_the_recipes(place, tmp_path, monkeypatch):
    first = go(place, "replay", **CARRIED)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "other"))
    second = go(place, "replay", **CARRIED)
    assert np.array_equal(first.matrix, second.matrix)
    assert np.array_equal(first.lm_loss, second.lm_loss)
    assert [stage.weights_digest for stage in first.stages] == [stage.weights_digest for stage in second.stages]
    assert [stage.tokens for stage in first.stages] == [N * 8 * 32] * 2
    assert first.cost.tokens == go(place, "replay").cost.tokens


@pytest.mark.slow
def test_a_result_holds_the_rate_of_every_logged_point(place):
    stages = go(place, **INFINITE).stages
    assert [stage.steps for stage in stages] == [(10, 18, 20, 30)] * 2
    annealed = [1e-3 * 0.1 ** ((step - 1 - TRUNK) / (N - TRUNK)) for step in (20, 30)]
    for stage in stages:
        assert stage.rates == pytest.approx([1e-3, 1e-3, *annealed])
    assert go(place).stages[0].rates == pytest.approx([1e-3 * (27 - (step - 1 - 3)) / 27 for step in (10, 20, 30)])


class Watching(Method):
    pass


@pytest.mark.parametrize("schedule", ["infinite", *slow("linear", "rsqrt")])
@pytest.mark.slow
def test_the_rates_in_a_result_are_those_of_the_optimizer(place, monkeypatch, schedule):
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    settings = {"pretrain.schedule": schedule, "pretrain.lr": 2e-3}
    graph, executor = spec_of(place / "small.toml", settings=settings, seed=5), None
    executor = Executor(Store(home() / "store"), home() / "corpora")
    nodes = in_order([*graph.trunks, *graph.stages])
    executor.compute(nodes[0].spec())
    used = {}
    for node in nodes[1:]:
        seen.clear()
        executor.compute(node.spec())
        used[node.key] = list(seen)
    result = go(place, seed=5, **settings)
    for number, stage in enumerate(result.stages):
        own = used[graph.stages[number].key]
        made = own if schedule != "infinite" else used[graph.trunks[number].key] + own
        assert len(made) == N
        assert stage.rates == tuple(made[point - 1] for point in stage.steps)


def test_keys_of_older_schedules_hold_nothing_new(place):
    """The key of a stage is a digest of what identities had before any of what later came to them."""
    node = spec_of(place / "small.toml").stages[0]
    identity = dataclasses.asdict(node.identity)
    recipe = identity["recipe"]
    assert set(recipe) == {
        *("objective", "batch", "length", "lr", "schedule", "warmup_fraction", "weight_decay"),
        *("clip", "mask_fraction", "precision", "threads"),
    }
    later = ("place", "span", "probed", "general", "ranks", "logits", "noise")
    assert {identity.pop(name) for name in later} == {None}
    parents = [parent.key for parent in node.parents]
    old = {"schema": NODE_SCHEMA, "versions": library_versions(), "identity": identity, "parents": parents}
    assert node.key == digest(old)


@pytest.mark.parametrize(
    "settings",
    [
        {"pretrain.min_lr": 1e-5},
        {"pretrain.schedule": "wsd"},
        {"pretrain.schedule": "rsqrt"},
        {"pretrain.schedule": "ar_cap"},
        INFINITE,
        {"pretrain.carry_optimizer": True},
    ],
)
def test_a_new_setting_changes_every_stage_and_the_protocol(place, settings):
    plain, changed = spec_of(place / "small.toml"), spec_of(place / "small.toml", settings=settings)
    assert not {node.key for node in plain.stages} & {node.key for node in changed.stages}
    assert plain.inputs.protocol != changed.inputs.protocol
    assert plain.base.key == changed.base.key
    assert plain.losses[0].key == changed.losses[0].key


def test_methods_that_start_from_the_base_warm_up_at_every_stage(place):
    places = [node.identity.place for node in spec_of(place / "small.toml", "separate", settings=INFINITE).stages]
    assert [(where.before, where.first) for where in places] == [(0, N), (0, N)]
    places = [node.identity.place for node in spec_of(place / "small.toml", settings=INFINITE).stages]
    assert [(where.before, where.first) for where in places] == [(0, N), (TRUNK, N)]
    (joint,) = spec_of(place / "small.toml", "joint", settings={"pretrain.schedule": "ar_cap"}).stages
    assert (joint.identity.place.before, joint.identity.place.total) == (0, 2 * N)


@pytest.mark.parametrize("schedule", ["rsqrt", "ar_cap", "infinite"])
def test_the_base_has_one_stage_and_takes_no_schedule_that_crosses_stages(place, schedule):
    with pytest.raises(BadConfig, match=rf"\[base\]: schedule '{schedule}' crosses stages"):
        spec_of(place / "small.toml", settings={"base.schedule": schedule})
    spec_of(place / "small.toml", settings={"base.schedule": "wsd"})
