"""Trackers listen to a run: they are told what is computed, and none of them stops it or changes a number."""

from __future__ import annotations

import importlib.util
import os

import pytest
from accelerate.tracking import GeneralTracker
from small_streams import write_stream

import ctbench
from ctbench.cli import main
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.engine.tracking import Tracking, make_tracker, read_trackers, tracked
from ctbench.errors import BadConfig, UnknownName
from ctbench.plugins.find import get_method

QUICK = {"finetune.epochs": 1, "finetune.seeds": "[0]", "language.num_test": 8}


class Recorder(GeneralTracker):
    """A tracker that keeps what it is told; it fails at a call of some number."""

    name = "recorder"
    requires_logging_directory = False

    def __init__(self, fails_at=None):
        super().__init__(_blank=True)
        self.said, self.finished, self.fails_at = [], False, fails_at

    @property
    def tracker(self):
        return self

    def start(self):
        self.config = None

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **_more):
        if len(self.said) == self.fails_at:
            raise ConnectionError("no route\nto host")
        self.said.append((step, values))

    def finish(self):
        self.finished = True


def run_with(folder, trackers, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(folder / "home"))
    job = Job(method="lwf", stream=write_stream(folder), set=QUICK, workers=0, results=folder / "results")
    lines = []
    with Tracking(trackers, Store(home() / "store"), say=lines.append) as listening:
        (result,) = run(job, listen=listening.beside(None), say=lambda _line: None)
    return result, lines


def test_trackers_get_losses_by_term_lr_tokens_cells_and_do_not_stop_the_run(tmp_path, monkeypatch):
    good, single, bad = Recorder(), Recorder(), Recorder(fails_at=3)
    trackers = {"tensorboard": good, "wandb": single, "mlflow": bad}
    result, lines = run_with(tmp_path, trackers, monkeypatch)
    said = {name: (step, value) for step, values in good.said for name, value in values.items()}
    stage = "lwf-seed-0/stage 2 domain-2"
    for name in ("loss", "lm", "kd", "lr", "seconds"):
        assert f"{stage}/{name}" in said
    losses = result.stages[1]
    assert said[f"{stage}/kd"] == (losses.steps[-1], losses.losses["kd"][-1])
    assert (
        said["lwf-seed-0/cell domain-1 in row 2, fine-tuning seed 0".replace(",", "") + "/accuracy"][1]
        == result.matrix[2, 0]
    )
    assert said["base/LM loss of the base/domain-2"][1] == result.lm_loss[0, 1]
    assert said["base/base of small/tokens_per_second"][1] > 0
    assert (good.config["method"], good.config["domains"]) == ("lwf", "domain-1, domain-2")
    assert good.config["lwf.weight"] == get_method("lwf").weight
    assert good.finished
    assert all(step is None for step, _ in single.said)
    assert any(f"{stage}/step" in values for _, values in single.said)
    assert lines == ["tracking with mlflow stopped, the run goes on: ConnectionError: no route"]
    assert not bad.finished


def test_nothing_is_tracked_unless_asked_for():
    job = Job(method="naive", stream="domain")
    with tracked([job], None, print) as listen:
        assert listen is None


def test_a_tracker_is_named_after_all_jobs_of_the_call():
    for methods, wanted in ((["naive"], "naive-domain-2"), (["naive", "lwf", "ewc"], "naive-and-2-more-domain-2")):
        tracker = make_tracker("tensorboard", [Job(method=method, stream="domain") for method in methods])
        assert tracker.run_name.startswith(wanted)


def test_an_unknown_tracker_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'tensorboard'"):
        read_trackers("tensorbord", online=False)


def test_run_and_plan_refuse_an_unknown_tracker_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    for command in ("run", "plan"):
        assert main([command, "--method", "naive", "--stream", "domain", "--track", "tensorbord"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_a_missing_package_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    for name, package in (("wandb", "wandb"), ("mlflow", "mlflow"), ("tensorboard", "tensorboard")):
        with pytest.raises(BadConfig, match=f"pip install {package}$"):
            read_trackers(name, online=False)


def test_a_server_needs_online(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org")
    with pytest.raises(BadConfig, match="add --online"):
        read_trackers("mlflow", online=False)
    assert read_trackers("mlflow,wandb,mlflow", online=True) == ("mlflow", "wandb")


def test_wandb_is_offline_unless_the_run_is_online(monkeypatch):
    for online, wanted in ((False, "offline"), (True, None)):
        monkeypatch.delenv("WANDB_MODE", raising=False)
        make_tracker("tensorboard", [Job(method="naive", stream="domain", online=online)])
        assert os.environ.get("WANDB_MODE") == wanted
    monkeypatch.delenv("WANDB_MODE", raising=False)


def test_tensorboard_files_are_written_beside_the_results(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    results, stream = tmp_path / "results", write_stream(tmp_path)
    options = {"set": QUICK, "workers": 0, "results": results, "progress": False}
    ctbench.run(method="naive", stream=str(stream), track="tensorboard", **options)
    assert list((results / "tracking").rglob("events.out.*"))
    assert len(ctbench.load_results(results)) == 1
