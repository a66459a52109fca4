"""The whole path on a small stream: matrix, store, workers, resuming, what an edited method recomputes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from method_helpers import slow
from small_streams import spec_of, write_method, write_stream

from ctbench.engine import compute
from ctbench.engine.compute import Executor
from ctbench.engine.job import Job
from ctbench.engine.launchers.agenda import missing
from ctbench.engine.node import in_order
from ctbench.engine.resume import load_checkpoint
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, RunFailed
from ctbench.machine.device import device
from ctbench.machine.manifest import write_manifest
from ctbench.machine.provenance import processor
from ctbench.results.format import to_record


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A stream, and a store that the tests of this file share."""
    folder = tmp_path_factory.mktemp("run")
    write_stream(folder)
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def go(place, method="naive", workers=0, **options):
    said: list[str] = []
    todo: list = []

    def listen(nodes):
        todo.extend(nodes)
        return lambda event: None

    job = Job(method=method, stream=place / "small.toml", results=place / "results", workers=workers, **options)
    found = run(job, say=said.append, listen=listen)
    return found[0], todo, said


def test_run_gives_matrix_losses_metrics_and_cost(place):
    result, _, said = go(place, control=True)
    assert result.matrix.shape == result.lm_loss.shape == (3, 2)
    assert np.isfinite(result.matrix).all()
    assert np.isfinite(result.lm_loss).all()
    assert result.metrics["F_Acc"] == pytest.approx(result.matrix[2].mean())
    assert result.cost.tokens == 2 * 30 * 8 * 32
    assert result.cost.forward_tokens == result.cost.tokens
    assert result.cost.added_parameters == result.cost.stored_bytes == 0
    assert result.control.tokens == result.cost.tokens
    assert len(result.cells) == 3 * 2 * 2
    assert result.not_comparable == ("stream small is not registered",)
    assert said[0].startswith("new: ")


def test_control_draws_anew_from_the_text_of_the_base():
    runs = [spec_of("domain", seed=seed, settings={"language.seed": "1"}, control=True) for seed in range(3)]
    drawn = {run.control.stages[0].identity.seed for run in runs}
    assert len(drawn) == 3
    assert runs[0].base.identity.seed not in drawn


def test_objective_that_does_not_fit_the_model_is_refused(place, checkpoint):
    for table in ("pretrain", "base"):
        with pytest.raises(BadConfig, match=rf"{table}\.objective is 'clm', and tiny is a masked LM"):
            spec_of("domain", settings={f"{table}.objective": "clm"})
    with pytest.raises(BadConfig, match="objective 'mlm' does not fit model"):
        go(place, model=str(checkpoint("gpt2")), set={"pretrain.objective": "mlm"})


def test_stage_lowers_the_loss_of_its_domain(place):
    result, *_ = go(place)
    assert (np.diagonal(result.lm_loss[1:]) < result.lm_loss[0]).all()


def test_second_run_computes_nothing_and_keeps_the_file(place):
    first, *_ = go(place)
    again, todo, said = go(place)
    assert todo == []
    assert said[0].startswith("same: ")
    assert np.array_equal(first.matrix, again.matrix)


def test_a_gpu_that_stages_ran_on_is_named_beside_the_processor(place):
    result, *_ = go(place)
    assert result.provenance.processor == processor()
    folder = Store(home() / "store").folder(result.stages[0].key)
    before = (folder / "record.json").read_text()
    record = json.loads(before)["record"]
    write_manifest(folder, record | {"work": record["work"] | {"device_name": "NVIDIA X"}})
    again, *_ = go(place)
    (folder / "record.json").write_text(before)
    assert again.provenance.processor == f"{processor()} + NVIDIA X"


@pytest.mark.skipif(device().type != "cpu", reason="torch can use the GPU that is here")
def test_planning_for_a_gpu_that_torch_cannot_use_is_refused_before_computing(place, monkeypatch):
    monkeypatch.setattr("ctbench.engine.inputs.accelerator", lambda: "cuda")
    with pytest.raises(BadConfig, match="planned for the device 'cuda', and torch computes on 'cpu'"):
        go(place)


def test_out_of_gpu_memory_error_suggests_fewer_workers(place, monkeypatch):
    def full(executor, spec, hooks):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setitem(compute._COMPUTE, "stage", full)
    with pytest.raises(RunFailed, match="no memory left; fewer --workers or smaller batches"):
        go(place, seed=77)


@pytest.mark.slow
def test_several_orders_and_seeds_are_one_graph_and_equal_nodes_are_computed_once(place):
    go(place)
    results, todo = [], []

    def listen(nodes):
        todo.append(len(nodes))
        return lambda event: None

    job = Job(
        method="naive", stream=place / "small.toml", results=place / "results", workers=0, seed="0,5", order="0,8"
    )
    results = run(job, say=lambda line: None, listen=listen)
    assert [(result.order, result.seed) for result in results] == [(0, 0), (0, 5), (8, 0), (8, 5)]
    assert len(todo) == 1


def test_second_method_recomputes_neither_base_nor_row_0(place):
    go(place)
    _, todo, _ = go(place, "replay")
    assert {node.kind for node in todo} == {"stage", "loss", "cell"}
    assert len(todo) == 2 + 2 + 4  # nor the first stage with its row: it starts as naive


@pytest.mark.slow
def test_two_stores_and_two_workers_give_the_same_bits(place, tmp_path, monkeypatch):
    first, *_ = go(place, "hyperprompt")
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "other"))
    second, todo, _ = go(place, "hyperprompt", workers=2)
    assert len(todo) > 12
    assert np.array_equal(first.matrix, second.matrix)
    assert np.array_equal(first.lm_loss, second.lm_loss)
    assert [stage.weights_digest for stage in first.stages] == [stage.weights_digest for stage in second.stages]
    assert len({stage.weights_digest for stage in first.stages}) == 2


def test_failing_method_ends_the_run_with_its_reason_and_loses_nothing(place, tmp_path):
    go(place)
    bad = write_method(tmp_path, "def loss(self, stage, batch):\n    raise KeyError('oops')")
    before = set((home() / "store").rglob("record.json"))
    for workers in (0, 1):
        with pytest.raises(RunFailed, match=r"stage 1.*oops"):
            go(place, str(bad), workers=workers)
    assert set((home() / "store").rglob("record.json")) == before


@pytest.mark.parametrize("workers", [0, *slow(1)])
def test_method_that_breaks_its_interface_inside_a_stage_fails_the_run(place, tmp_path, workers):
    bad = write_method(tmp_path, "def loss(self, stage, batch):\n    return {'lm': 3}")
    with pytest.raises(RunFailed, match=r"stage 1.*'lm' is a int"):
        go(place, str(bad), workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_method_that_exits_fails_its_run_and_not_the_process(place, tmp_path, workers):
    bad = write_method(tmp_path, "def loss(self, stage, batch):\n    raise SystemExit(3)")
    with pytest.raises(RunFailed, match=r"stage 1.*SystemExit: 3"):
        go(place, str(bad), workers=workers)


@pytest.mark.parametrize("method", ["replay", *slow("naive", "hyperprompt")])
def test_resumed_stage_equals_uninterrupted(place, method, tmp_path):
    """Bit for bit, weights and memory; the interruption is an exception in the middle of the stage."""
    expanded = spec_of(place / "small.toml", method, seed=3)
    whole = Store(tmp_path / "whole")
    broken = Store(tmp_path / "broken")
    for store in (whole, broken):
        executor = Executor(store, home() / "corpora", save_seconds=0.0)
        for node in in_order([expanded.stages[0]]):
            executor.compute(node.spec())

    class Killed(Exception):
        pass

    def kill(step, num_steps, loss):
        if step == 20:
            raise Killed

    spec = expanded.stages[1].spec()
    with pytest.raises(Killed):
        Executor(broken, home() / "corpora", save_seconds=0.0).compute(spec, kill)
    assert load_checkpoint(broken.checkpoints(spec.key)).step == 10
    for store in (whole, broken):
        Executor(store, home() / "corpora").compute(spec)
    records = [store.read(spec.key) for store in (whole, broken)]
    assert records[0].weights_digest == records[1].weights_digest
    assert records[0].training.losses == records[1].training.losses
    assert records[0].training.forward_tokens == records[1].training.forward_tokens
    assert records[0].training.flops == records[1].training.flops > 0
    folders = [store.folder(spec.key) for store in (whole, broken)]
    assert (folders[0] / "memory.json").read_bytes() == (folders[1] / "memory.json").read_bytes()
    assert not broken.checkpoints(spec.key).exists()


def test_a_node_that_depends_on_a_missing_one_brings_it_along(place, tmp_path):
    expanded = spec_of(place / "small.toml")
    todo = missing([expanded.cells[2, "domain-1", 0]], Store(tmp_path))
    assert [node.kind for node in todo] == ["base", "stage", "stage", "cell"]


def test_result_names_no_path(place):
    result, *_ = go(place)
    assert str(place) not in json.dumps(to_record(result))


def test_joint_style_plan_leaves_rows_empty(place, tmp_path):
    body = """
def plan(self, stream):
    from ctbench.plans import Plan
    return Plan(stages=(stream.names,), parents=(0,), cells=((0, 0), (None, None), (1, 1)))
"""
    result, *_ = go(place, str(write_method(tmp_path, body.strip(), "union")))
    assert np.isnan(result.matrix[1]).all()
    assert result.metrics["A_Acc"] is None
    assert result.metrics["F_Acc"] is not None
    assert result.stages[0].tokens == 2 * 30 * 8 * 32
