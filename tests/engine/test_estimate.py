from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fake_records import WORK, cell_record, fake_node, stage_record

import ctbench
from ctbench.engine.estimate import Estimator, estimate
from ctbench.engine.speeds import TINY_LAYER_PARAMETERS, layer_parameters, read_speeds, write_speeds
from ctbench.engine.store import Store
from ctbench.errors import BadConfig
from ctbench.plugins.new import new_stream

RECIPE = {"tokens": 10_000, "batch": 10, "length": 10, "held_out_tokens": 600, "epochs": 3}
STAGE, CELL, LOSS = (fake_node(kind, RECIPE) for kind in ("stage", "cell", "loss"))


def speed(**changes):
    row = {
        "kind": "stage",
        "layer_parameters": TINY_LAYER_PARAMETERS,
        "precision": "fp32",
        "threads": 1,
        "seconds": 0.5,
    }
    return row | changes


def seconds(rows):
    return {row["kind"]: (row["seconds"], row["source"]) for row in rows}


def test_bench_serves_where_the_store_has_no_records(tmp_path):
    speeds = [speed(), speed(kind="cell", examples=10, seconds=0.25)]
    found = seconds(estimate([STAGE, CELL, LOSS], Store(tmp_path), speeds=speeds))
    assert found["stage"] == (700 * 0.5, "bench")
    assert found["cell"] == (10 * 3 * 0.25, "bench")
    assert found["loss"] == (600 * 2 / 3 * 0.5, "bench")
    assert found["base"] == (0.0, None)


def test_a_loss_reads_no_more_than_is_held_out(tmp_path):
    identity = replace(LOSS.identity, text=("short", "long"))
    loss = replace(LOSS, identity=identity)
    held_out = {(LOSS.lookup.model, "short"): 90, (LOSS.lookup.model, "long"): 5000, ("other", "long"): 1}
    guess = Estimator([loss], Store(tmp_path), [speed()], held_out=held_out).guess(loss)
    assert guess.seconds == (90 + 600) / 3 * 0.5


def test_a_plan_knows_how_much_text_of_files_is_held_out(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    write_speeds(tmp_path / "home", [speed(), speed(kind="cell", examples=10)])
    stream, *_ = new_stream("here", tmp_path)
    asked = {"method": "naive", "stream": stream, "precision": "fp32", "progress": False}
    most, more = (ctbench.plan(set={"pretrain.held_out_tokens": tokens}, **asked) for tokens in (10**5, 10**6))
    times = {row["seconds"] for found in (most, more) for row in found.rows if row["kind"] == "loss"}
    assert len(times) == 1
    assert 0 < times.pop() < 10**5 / 3 * 0.5


def test_time_is_scaled_by_the_size_of_the_model(tmp_path):
    far = speed(layer_parameters=100 * TINY_LAYER_PARAMETERS, seconds=9.0)
    near = speed(layer_parameters=2 * TINY_LAYER_PARAMETERS, seconds=1.0)
    assert seconds(estimate([STAGE], Store(tmp_path), speeds=[far, near]))["stage"][0] == 700 * 0.5


DONE = stage_record(tokens=2, seconds=4.0)


def test_store_is_believed_before_the_bench(tmp_path):
    store = Store(tmp_path)
    with store.writing("ab" * 32, DONE):
        pass
    with store.writing("cd" * 32, cell_record(seconds=6.0, work=replace(WORK, epochs=2))):
        pass
    found = seconds(estimate([STAGE, CELL], store, speeds=[speed()]))
    assert found["stage"] == (700 * 2.0, "store")
    assert found["cell"] == (3 * 3.0, "store")


@pytest.mark.parametrize("other", [{"model": "big"}, {"precision": "bf16"}, {"device": "cuda"}, {"compiled": True}])
def test_store_says_nothing_of_other_work(other, tmp_path):
    store = Store(tmp_path)
    with store.writing("ab" * 32, replace(DONE, work=replace(WORK, **other))):
        pass
    assert seconds(estimate([STAGE], store, speeds=[speed()]))["stage"] == (700 * 0.5, "bench")
    assert seconds(estimate([STAGE], store))["stage"] == (None, None)


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_record_is_left_out(content, tmp_path):
    store = Store(tmp_path)
    for letter in "ab":
        with store.writing(letter * 64, DONE):
            pass
    (store.folder("a" * 64) / "record.json").write_text(content, encoding="utf-8")
    assert seconds(estimate([STAGE], store))["stage"] == (700 * 2.0, "store")


def test_a_store_that_is_only_looked_into_is_not_made(tmp_path):
    store = Store(tmp_path / "new", writes=False)
    assert seconds(estimate([STAGE], store, speeds=[speed()]))["stage"] == (700 * 0.5, "bench")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="cannot be written"):
        Store(tmp_path / "file" / "store")


def test_nothing_measured_is_unknown_and_so_is_another_precision(tmp_path):
    store = Store(tmp_path)
    assert seconds(estimate([STAGE], store))["stage"] == (None, None)
    for other in ({"precision": "bf16"}, {"device": "cuda"}):
        assert seconds(estimate([STAGE], store, speeds=[speed(**other)]))["stage"] == (None, None)


def test_losses_are_judged_by_compiled_stages_where_there_are_no_others(tmp_path):
    store = Store(tmp_path)
    with store.writing("ab" * 32, replace(DONE, work=replace(WORK, compiled=True))):
        pass
    found = seconds(estimate([STAGE, LOSS], store))
    assert found["loss"] == (600 * 2 / 3 * 2.0, "store")
    assert found["stage"] == (None, None)


def test_newer_speed_replaces_the_older_of_the_same_kind(tmp_path):
    write_speeds(tmp_path, [speed(), speed(threads=2)])
    write_speeds(tmp_path, [speed(seconds=0.125, device="cpu")])
    assert [(row["threads"], row["seconds"]) for row in read_speeds(tmp_path)] == [(1, 0.125), (2, 0.5)]
    (tmp_path / "speeds.json").write_text("{")
    assert read_speeds(tmp_path) == []


def test_size_of_a_checkpoint_is_read_from_its_configuration(checkpoint, tmp_path):
    assert layer_parameters(str(checkpoint("bert"))) == 12 * 2 * 32**2
    assert layer_parameters(str(checkpoint("gpt2"))) == 12 * 2 * 32**2
    assert layer_parameters(str(tmp_path / "nothing")) is None
    assert json.loads((checkpoint("distilbert") / "config.json").read_text())["dim"] == 32
    assert layer_parameters(str(checkpoint("distilbert"))) == 12 * 2 * 32**2


@pytest.mark.parametrize(
    "row", [1, None, {}, {"kind": "stage", "precision": "fp32"}, {"kind": "cell", **{"seconds": "x"}}]
)
def test_speeds_that_are_none_are_left_out(row, tmp_path):
    (tmp_path / "speeds.json").write_text(json.dumps([row, speed()]))
    assert read_speeds(tmp_path) == [speed()]
