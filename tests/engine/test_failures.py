"""A failed node is named, what needs it is not computed, everything else goes on, and the result says that it is incomplete."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from method_helpers import slow
from safetensors import SafetensorError
from small_streams import write_method, write_stream

import ctbench
from ctbench import compare
from ctbench.cli import main
from ctbench.engine import compute
from ctbench.engine.failures import NodesFailed
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.errors import BadConfig, MissingResult, RunFailed
from ctbench.reporting.summary import describe
from ctbench.reporting.tables import plain_text
from ctbench.results.files import read_results
from ctbench.training import finetune

BREAKS_IN_STAGE_2 = """
def loss(self, stage, batch):
    import os
    loss = stage.backbone(batch).loss
    breaks = os.environ.get("BREAK") and stage.domains == ("domain-2",) and stage.step == 4
    return {"lm": loss * (float("nan") if breaks else 1.0)}
"""


BREAKS_ONCE = """
def begin(self, stage):
    from pathlib import Path
    if not Path("MARK").exists():
        Path("MARK").touch()
        raise KeyError("oops")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A stream, and a home that holds its base and row 0."""
    folder = tmp_path_factory.mktemp("failures")
    write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def job(place, method, tmp_path, **options):
    options = {"workers": 0, **options}
    return Job(method=method, stream=place / "small.toml", results=tmp_path / "results", **options)


@pytest.mark.slow
def test_nan_in_stage_2_leaves_the_rest_and_the_complete_result_replaces_the_incomplete(place, tmp_path, monkeypatch):
    method = write_method(tmp_path, BREAKS_IN_STAGE_2.strip())
    monkeypatch.setenv("BREAK", "1")
    said: list[str] = []
    with pytest.raises(NodesFailed, match=r"mine on small, seed 0: stage 2 \(domain-2\): training diverged") as error:
        run(job(place, method, tmp_path), say=said.append)
    (failure,) = error.value.failures
    assert len(failure.dependents) == 2 + 2  # two LM losses, two cells
    assert said[-1].startswith("incomplete: ")
    (result,) = read_results(tmp_path / "results", strict=True).results
    assert not result.is_complete
    assert np.isfinite(result.matrix[:2]).all()
    assert np.isnan(result.matrix[2]).all()
    assert np.isnan(result.lm_loss[2]).all()
    assert [stage.stage for stage in result.stages] == [1]
    assert [(each.node, each.num_dependents) for each in result.failures] == [("stage 2 (domain-2)", 4)]
    assert {cell.score for cell in result.cells if cell.row == 2} == {None}
    assert error.value.results[0].key == result.key

    shown = "".join(plain_text(table) for table in describe(result))
    assert "incomplete, on no leaderboard: stage 2 (domain-2): training diverged" in shown
    assert "–" in shown

    monkeypatch.delenv("BREAK")
    (complete,) = run(job(place, method, tmp_path), say=said.append)
    assert said[-1].startswith("completed: ")
    assert complete.is_complete
    assert np.isfinite(complete.matrix).all()
    assert np.array_equal(complete.matrix[:2], result.matrix[:2])
    (file,) = (tmp_path / "results").rglob("*.json")
    assert json.loads(file.read_text())["failures"] == []


def test_other_seeds_go_on_and_fail_fast_stops_at_the_first(place, tmp_path):
    method = write_method(tmp_path, BREAKS_ONCE.strip().replace("MARK", str(tmp_path / "mark")))
    with pytest.raises(NodesFailed, match=r"KeyError: 'oops' \(mine.py, line \d+\)") as error:
        run(job(place, method, tmp_path, seed="0,1"))
    states = [result.is_complete for result in error.value.results]
    assert sorted(states) == [False, True]
    assert "Traceback" not in str(error.value)
    assert "KeyError" in error.value.__notes__[0]
    (tmp_path / "mark").unlink()
    with pytest.raises(NodesFailed, match="stopped at the first failure") as error:
        run(job(place, method, tmp_path, seed="2,3", fail_fast=True))
    assert error.value.results == ()


@pytest.mark.parametrize("workers", [0, *slow(1)])
def test_a_failing_cell_is_null_with_its_reason_and_is_left_out_of_every_table(place, tmp_path, workers):
    body = """
def adapt(self, backbone, stream, task, row):
    if (task, row) == ("domain-1", 2):
        raise FileNotFoundError(2, "No such file or directory", "/home/somebody/secret/weights.bin")
    return backbone
"""
    method = write_method(tmp_path, body.strip())
    with pytest.raises(RunFailed, match="cell domain-1 in row 2, fine-tuning seed 0: FileNotFoundError"):
        run(job(place, method, tmp_path, workers=workers))
    (file,) = (tmp_path / "results").rglob("*.json")
    assert "somebody" not in file.read_text()
    (result,) = read_results(tmp_path / "results", strict=True).results
    assert np.isnan(result.matrix).sum() == 1
    assert np.isnan(result.lm_loss).sum() == 2  # an LM loss measures the adapted LM of every domain
    assert len(result.stages) == 2
    assert all("weights.bin" in failure.reason for failure in result.failures)
    for everything in (False, True):
        comparison = compare(tmp_path / "results", all=everything, partial=True)
        assert comparison.groups == ()
        assert "left out, incomplete: mine on small, seed 0 (" in comparison.hidden[0]
        assert "cell domain-1 in row 2, fine-tuning seed 0: FileNotFoundError" in comparison.hidden[0]
    with pytest.raises(MissingResult, match="incomplete"):
        ctbench.plot([result], kind="anytime", output=tmp_path / "x.svg")
    assert not ctbench.load_results(tmp_path / "results")["is_comparable"].any()


@pytest.mark.slow
def test_an_incomplete_result_does_not_replace_a_complete_one(place, tmp_path, monkeypatch):
    (complete,) = run(job(place, "naive", tmp_path))
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(finetune, "_evaluate", lambda *_args, **_more: 1 / 0)
    said: list[str] = []
    with pytest.raises(NodesFailed, match="ZeroDivisionError"):
        run(job(place, "naive", tmp_path), say=said.append)
    assert said[-1].startswith("kept: ")
    (file,) = read_results(tmp_path / "results").results
    assert file.is_complete
    assert np.array_equal(file.matrix, complete.matrix)


def test_a_cell_that_diverges_is_no_success(place, tmp_path):
    settings = {"finetune.lr": 1.0, "finetune.clip": 0.0, "finetune.epochs": 1}
    body = """
def adapt(self, backbone, stream, task, row):
    for _, weight in backbone.trainable():
        weight.data.fill_(float("inf"))
    return backbone
"""
    with pytest.raises(NodesFailed, match="fine-tuning diverged in epoch 1") as error:
        run(job(place, write_method(tmp_path, body.strip()), tmp_path, set=settings))
    assert len(error.value.results[0].failures) >= 4


def test_a_failed_base_leaves_no_result_and_names_what_was_not_computed(place, tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(compute._COMPUTE, "base", lambda *_: 1 / 0)
    with pytest.raises(NodesFailed, match="14 that need it were not computed") as error:
        run(job(place, "naive", tmp_path))
    assert error.value.results == ()
    assert not list((tmp_path / "results").rglob("*.json"))


def test_a_wrong_call_that_a_node_finds_ends_everything(place, tmp_path, monkeypatch):
    def refuse(*_):
        raise BadConfig("no such device")

    monkeypatch.setitem(compute._COMPUTE, "stage", refuse)
    with pytest.raises(BadConfig, match="no such device"):
        run(job(place, "naive", tmp_path, seed=5))


def test_a_disk_that_fills_up_ends_the_launch_at_the_first_stage(place, tmp_path, monkeypatch):
    calls = []

    def refuse(_tensors, path):
        calls.append(path.name)
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    with pytest.raises(RunFailed, match=r"stage 1 .* failed: the store .* \(No space left on device\); free") as error:
        run(job(place, "naive", tmp_path, seed="7,8"))
    assert not isinstance(error.value, NodesFailed)
    assert calls == ["weights.safetensors"]


def test_out_of_memory_is_tried_again_when_the_others_are_done(place, tmp_path, monkeypatch):
    calls, kept = [], compute._COMPUTE["stage"]

    def full_once(executor, spec, hooks):
        calls.append(spec.title)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        kept(executor, spec, hooks)

    monkeypatch.setitem(compute._COMPUTE, "stage", full_once)
    events: list = []
    (result,) = run(job(place, "naive", tmp_path, seed=6), listen=lambda _: events.append)
    assert result.is_complete
    assert calls[:2] == ["stage 1 (domain-1)"] * 2
    (event,) = [event for event in events if event.what == "retrying"]
    assert "GPU has no memory left" in event.reason


KILLED = """
def begin(self, stage):
    import os, signal
    from pathlib import Path
    mark = Path("MARK")
    if stage.domains == ("domain-2",) and ALWAYS + (not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_node_of_a_killed_worker_is_tried_again_by_a_new_one(place, tmp_path):
    body = KILLED.replace("MARK", str(tmp_path / "mark")).replace("ALWAYS", "0")
    events: list = []
    (result,) = run(
        job(place, write_method(tmp_path, body.strip()), tmp_path, workers=1), listen=lambda _: events.append
    )
    assert result.is_complete
    assert [event.reason for event in events if event.what == "retrying"] == [
        "its worker was killed by signal 9 (SIGKILL), probably by the system because memory ran out; "
        "tried again when the others are done"
    ]
    assert not list((place / "home").rglob("*.claim"))


@pytest.mark.slow
def test_a_node_that_kills_its_worker_twice_fails_and_the_others_go_on(place, tmp_path):
    body = KILLED.replace("MARK", str(tmp_path / "mark")).replace("ALWAYS", "1")
    with pytest.raises(NodesFailed, match=r"stage 2.*signal 9 \(SIGKILL\).*tried twice") as error:
        run(job(place, write_method(tmp_path, body.strip()), tmp_path, workers=2))
    (result,) = error.value.results
    assert np.isfinite(result.matrix[:2]).all()
    assert np.isnan(result.matrix[2]).all()


@pytest.mark.slow
def test_a_worker_that_ends_itself_is_not_tried_again(place, tmp_path):
    body = "def begin(self, stage):\n    import os\n    os._exit(3)"
    with pytest.raises(NodesFailed, match=r"stage 1.*its worker ended with exit code 3$"):
        run(job(place, write_method(tmp_path, body), tmp_path, workers=1))


def test_the_command_line_prints_a_line_per_failure_and_exits_with_1(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))  # another test completes the same node
    monkeypatch.setenv("BREAK", "1")
    method = write_method(tmp_path, BREAKS_IN_STAGE_2.strip())
    args = ["run", "-m", str(method), "-s", str(place / "small.toml"), "--workers", "0"]
    assert main([*args, "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["failures"][0]["node"] == "stage 2 (domain-2)"
    lines = captured.err.splitlines()
    assert "ctbench: 1 node failed, 4 that need it were not computed" in lines[-2]
    assert lines[-2].endswith("run the same command to resume")
    assert lines[-1].startswith("failed: mine on small, seed 0: stage 2 (domain-2): training diverged in update 5")
    assert "Traceback" not in captured.err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
