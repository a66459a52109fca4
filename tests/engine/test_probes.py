"""Probes inside a stage: where and on what, without changing a number, and through an interruption."""

from __future__ import annotations

import math

import pytest
from method_helpers import slow
from small_streams import spec_of, write_stream

from ctbench.engine.compute import Executor
from ctbench.engine.job import Job
from ctbench.engine.node import in_order
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig
from ctbench.reporting.plots.figure import make_figure
from ctbench.results.figures import FIGURES
from ctbench.training.probes import probe_steps

PROBED = {"pretrain.probes": 4}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))


def go(place, method="naive", **settings):
    return run(Job(method=method, stream=place / "small.toml", results=place / "results", workers=0, set=settings))[0]


def test_steps_are_log_spaced_from_the_start_to_the_end():
    assert probe_steps(100, 3) == (0, 1, 10, 100)
    assert probe_steps(2, 8) == (0, 1, 2)
    assert probe_steps(7, 1) == (0, 7)
    assert probe_steps(1000, 0) == ()


def test_past_domains_and_general_text_are_probed_and_no_number_changes(place):
    plain, probed = go(place, "replay"), go(place, "replay", **PROBED)
    assert [stage.weights_digest for stage in plain.stages] == [stage.weights_digest for stage in probed.stages]
    assert (plain.matrix == probed.matrix).all()
    assert plain.cost.forward_tokens == probed.cost.forward_tokens
    first, second = probed.stages
    assert (list(first.probes), list(second.probes)) == (["general"], ["domain-1", "general"])
    assert second.probe_steps == (0, 1, 3, 10, 30)
    assert plain.protocol == probed.protocol
    assert "pretrain.probes was set" not in probed.not_comparable


@pytest.mark.slow
@pytest.mark.parametrize("method", ["naive", "hypermap"])
def test_the_ends_of_the_probes_are_the_rows_of_the_loss_matrix(place, method):
    result = go(place, method, **PROBED)
    first, second = result.stages
    assert (second.probes["domain-1"][0], second.probes["domain-1"][-1]) == tuple(result.lm_loss[1:, 0])
    assert (first.probes["general"][0], first.probes["general"][-1]) == result.general_loss[:2]
    assert (second.probes["general"][0], second.probes["general"][-1]) == result.general_loss[1:]


@pytest.mark.parametrize("method", ["separate", *slow("prompts", "hyperprompt", "lora")])
def test_probes_run_where_lms_are_built_or_differ_by_domain(place, method):
    result = go(place, method, **PROBED)
    assert all(loss is not None for stage in result.stages for losses in stage.probes.values() for loss in losses)
    assert ("domain-1" in result.stages[1].probes) == (method != "separate")
    if method == "prompts":  # the prompt of the first domain does not change in the second stage
        assert len({*result.stages[1].probes["domain-1"]}) == 1


@pytest.mark.parametrize("schedule", [pytest.param("linear", marks=pytest.mark.slow), "infinite"])
@pytest.mark.slow
def test_an_interrupted_stage_keeps_its_probes(place, tmp_path, schedule):
    graph = spec_of(place / "small.toml", settings=PROBED | {"pretrain.schedule": schedule}, seed=2)
    whole, broken = (Executor(Store(tmp_path / n), home() / "corpora", save_seconds=0.0) for n in ("whole", "broken"))
    node = graph.stages[1]

    def kill(step, num_steps, loss):
        if step >= 20:
            raise KeyboardInterrupt

    for before in in_order([node]):
        whole.compute(before.spec())
    for before in in_order([node])[:-1]:
        broken.compute(before.spec())
    with pytest.raises(KeyboardInterrupt):
        broken.compute(node.spec(), kill)
    broken.compute(node.spec())
    records = [executor.store.read(node.key).training for executor in (whole, broken)]
    assert records[0].probes == records[1].probes
    assert records[0].probe_steps == records[1].probe_steps == (0, 1, 3, 10, 30)


def test_no_probes_is_the_default_and_changes_no_key(place):
    plain, zero = spec_of(place / "small.toml"), spec_of(place / "small.toml", settings={"pretrain.probes": 0})
    assert [node.key for node in plain.nodes] == [node.key for node in zero.nodes]
    assert go(place).stages[1].probes == {}
    probed = spec_of(place / "small.toml", settings=PROBED)
    assert not {node.key for node in plain.stages} & {node.key for node in probed.stages}


def test_probes_of_the_base_are_refused(place):
    with pytest.raises(BadConfig, match=r"\[base\]: carry_optimizer and probes belong to stages"):
        spec_of(place / "small.toml", settings={"base.probes": 8})


def test_stability_gap_and_its_picture(place):
    result = go(place, **PROBED)
    losses = result.stages[1].probes["domain-1"]
    gap = FIGURES["stability_gap"].function(result, None)
    assert gap == max(losses) - losses[0] >= 0
    assert math.isnan(FIGURES["stability_gap"].function(go(place), None))
    past, general = make_figure([result], kind="stability").axes
    assert list(past.get_lines()[0].get_ydata()) == pytest.approx([loss - losses[0] for loss in losses])
    assert len(general.get_lines()[0].get_ydata()) == 5
