"""Equal compute: a stage makes as many updates as the FLOPs of naive's tokens buy."""

from __future__ import annotations

import json

import pytest
from small_streams import spec_of, write_method, write_stream

import ctbench
from ctbench.cli import main
from ctbench.engine import budget
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.errors import BadConfig
from ctbench.plugins.find import find_plugins
from ctbench.training.schedules import learning_rate

QUICK = {"seeds": "[0]", "epochs": "1", "num_test": "16"}
TWICE = "def loss(self, stage, batch):\n    {}stage.backbone(batch)\n    return super().loss(stage, batch)"

REMEMBERS = """
def loss(self, stage, batch):
    if stage.memory:
        stage.backbone(batch)
    return super().loss(stage, batch)

def end(self, stage):
    stage.memory["stages"] = 1
""".strip()


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(budget, "_KNOWN", {})


def steps(method, stream, **options):
    return budget.stage_steps(read_inputs(Job(method=method, stream=stream, equal_compute=True, **options)))


def by_tokens(stream):
    return budget.stage_steps(read_inputs(Job(method="naive", stream=stream)))


def test_naive_makes_as_many_updates_as_its_tokens_buy(tmp_path):
    stream = write_stream(tmp_path, **QUICK)
    assert steps("naive", stream) == by_tokens(stream)


def test_a_second_forward_pass_costs_a_quarter_of_the_updates(tmp_path):
    """Forward : backward is 1 : 2 but for what needs no gradient, so two passes forward cost about 4/3 of one update."""
    stream = write_stream(tmp_path, **QUICK)
    twice = write_method(tmp_path, TWICE.format(""), "twice")
    for found, usual in zip(steps(twice, stream), by_tokens(stream), strict=True):
        assert found == pytest.approx(0.75 * usual, abs=2)


def test_the_cosine_over_a_run_ends_where_the_method_has_made_its_own_updates(tmp_path):
    """A costly method makes fewer updates; its second of two stages begins halfway down the cosine, as naive's does."""
    stream = write_stream(tmp_path, **QUICK)
    twice = write_method(tmp_path, TWICE.format("for _ in range(3): "), "twice")
    settings = {"pretrain.schedule": "ar_cap", "pretrain.warmup_fraction": 0.0}
    for method in ("naive", twice):
        run = spec_of(stream, method, settings=settings, equal_compute=True)
        first, second = (node.identity for node in run.stages)
        recipe = run.stream.recipe.pretrain
        assert second.place.before == first.num_steps
        assert second.place.total == first.num_steps + second.num_steps
        assert learning_rate(recipe, 0, first.num_steps, first.place) == recipe.lr
        assert learning_rate(recipe, 0, second.num_steps, second.place) == pytest.approx(recipe.lr / 2, rel=0.05)
    assert second.num_steps < 0.7 * steps("naive", stream)[1]


def test_the_cosine_over_a_run_moves_no_stage_that_begins_at_the_base(tmp_path):
    """Naive's first stage stays the first stage of methods that begin as it does, and no other schedule has a cosine."""
    stream = write_stream(tmp_path, **QUICK)
    plan = read_inputs(Job(method="naive", stream=stream)).plan
    for schedule, number, total in (("ar_cap", 1, 60), ("ar_cap", 2, 40), ("rsqrt", 2, 60), ("infinite", 2, 60)):
        settings = {"pretrain.schedule": schedule}
        found = read_inputs(Job(method="naive", stream=stream, equal_compute=True, set=settings)).stream
        assert budget.stage_place(found, plan, (20, 20), number).total == total
        by_tokens = read_inputs(Job(method="naive", stream=stream, set=settings)).stream
        assert budget.stage_place(by_tokens, plan, (20, 20), number).total == 60


def test_the_first_stage_of_a_method_with_memory_is_naives_and_the_second_is_shorter(tmp_path):
    stream = write_stream(tmp_path, **QUICK)
    later = write_method(tmp_path, REMEMBERS, "later")
    first, second = steps(later, stream)
    assert first == by_tokens(stream)[0]
    assert second == pytest.approx(0.75 * first, abs=2)


FEW = {
    "das": {"method.importance_blocks": 8},
    "derpp": {"method.max_blocks": 40},
    "ewc": {"method.num_examples": 4},
}
"""Settings with which the end of a stage costs less than naive's stage of a tiny stream."""
QUICK_ONES = [("derpp", "linear")]
SLOW_ONES = [
    ("ewc", "infinite"),
    *((name, "linear") for name in sorted({*find_plugins("method")} - {"naive", "derpp"})),
]


@pytest.mark.parametrize(
    ("method", "schedule"), [*QUICK_ONES, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW_ONES)]
)
def test_a_run_under_equal_compute_has_naives_flops_to_an_update(method, schedule, tmp_path):
    stream = write_stream(tmp_path, **QUICK)
    given = FEW.get(method, {}) | {"pretrain.schedule": schedule}
    naive, other = ctbench.run(
        method=f"naive,{method}",
        stream=stream,
        equal_compute=True,
        workers=0,
        set=given,
        results=tmp_path,
        progress=False,
    )
    updates = [
        stage.tokens / naive.recipe.pretrain["batch"] / naive.recipe.pretrain["length"] for stage in other.stages
    ]
    assert other.cost.flops <= 1.005 * naive.cost.flops
    assert other.cost.flops >= naive.cost.flops * (1 - 1.1 * max(len(updates) / sum(updates), 0.01))


def test_it_is_a_protocol_of_its_own_whose_naive_is_not_computed_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stream = write_stream(tmp_path, **QUICK)
    results = [
        ctbench.run(method="naive", stream=stream, equal_compute=equal, workers=0, progress=False)[0]
        for equal in (False, True)
    ]
    assert results[0].protocol != results[1].protocol
    assert [stage.key for stage in results[0].stages] == [stage.key for stage in results[1].stages]
    assert results[1].recipe.pretrain["equal_compute"] is True
    assert "equal_compute" not in results[0].recipe.pretrain
    capsys.readouterr()
    assert main(["compare", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert len(tables) == 2
    assert main(["compare"]) == 0
    assert "pretrain.equal_compute True instead of None" in capsys.readouterr().out


def test_a_stage_that_cannot_afford_an_update_is_refused(tmp_path):
    stream = write_stream(tmp_path, **QUICK)
    many = write_method(tmp_path, TWICE.format("for _ in range(60): "), "many")
    few = {"pretrain.tokens": 320}
    assert steps("naive", stream, set=few) < (20, 20)
    with pytest.raises(BadConfig, match=r"stage 1 of many costs .* raise pretrain.tokens"):
        steps(many, stream, set=few)
