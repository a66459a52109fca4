"""What the launcher for Ray does without a cluster: its options and refusals. `tests/cluster` has the rest."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
from small_streams import spec_of, write_method, write_stream

import ctbench
from ctbench.cli import main
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.engine.ray.actor import WorkerActor
from ctbench.engine.ray.launch import _setup
from ctbench.engine.ray.options import RayOptions, read_ray
from ctbench.errors import BadConfig


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp("ray"))


def test_keys_of_ray_are_read_from_texts_and_mappings():
    found = read_ray(["gpus=0.5,cpus=2", "mem=4G"], "10.0.0.1:6379")
    assert found == RayOptions(address="10.0.0.1:6379", gpus=0.5, cpus=2.0, mem=4 * 2**30)
    assert found == read_ray({"gpus": 0.5, "cpus": 2, "mem": "4G"}, "10.0.0.1:6379")
    assert found.device == "cuda"
    assert found.resources() == {"num_cpus": 2.0, "num_gpus": 0.5, "memory": 4 * 2**30}
    assert read_ray((), None) == RayOptions(address="auto")
    assert read_ray((), None).device == "cpu"


def test_the_address_of_the_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert read_ray((), None).address == "head:6379"
    assert read_ray((), "local").address == "local"


@pytest.mark.parametrize(
    ("options", "machine", "slots"),
    [
        ({}, {"CPU": 8.0}, 8),
        ({"cpus": 3.0}, {"CPU": 8.0}, 2),
        ({"gpus": 1.0}, {"CPU": 8.0}, 0),
        ({"gpus": 1.0}, {"CPU": 8.0, "GPU": 4.0}, 4),
        ({"gpus": 0.25}, {"CPU": 64.0, "GPU": 2.0}, 8),
        ({"gpus": 0.3}, {"CPU": 64.0, "GPU": 2.0}, 6),  # no worker has parts of two GPUs
        ({"gpus": 2.0, "cpus": 0.0}, {"GPU": 5.0}, 2),
        ({"mem": 10}, {"CPU": 8.0, "memory": 25.0}, 2),
    ],
)
def test_as_many_workers_as_a_machine_has_room_for(options, machine, slots):
    assert RayOptions(**options).slots(machine) == slots


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ray", "gpu=1"], "--ray has no key 'gpu'; did you mean 'gpus'? known: gpus, cpus, mem"),
        (["--ray", "gpus=one"], "--ray gpus is 'one'; expected a number from 0 to 4096"),
        (["--ray", "gpus=nan"], "--ray gpus is 'nan'; expected a number from 0"),
        (["--ray", "gpus=1.5"], "--ray gpus is '1.5'; expected a fraction of one GPU or a whole number"),
        (["--ray", "mem=lots"], "--ray mem is 'lots'; expected a size such as 16G or 4000M"),
        (["--ray", "cpus=1,cpus=2"], "--ray names cpus twice"),
        (["--ray", "fast"], "--ray 'fast' is not of the form KEY=VALUE,KEY=VALUE"),
        (
            ["--address", "ray://head:10001"],
            "address is 'ray://head:10001'; the command reads the store, so it must run on",
        ),
        (["--address", "head"], "address is 'head'; expected auto, local or HOST:PORT"),
    ],
)
def test_wrong_keys_and_addresses_are_one_line(words, message, capsys, stream):
    assert main(["run", "-m", "naive", "-s", str(stream), "--launcher", "ray", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"ctbench: {message}")
    assert told.count("\n") == 1


@pytest.mark.parametrize("words", [["--ray", "gpus=1"], ["--address", "auto"]])
def test_options_of_ray_need_its_launcher(words, capsys, stream):
    for launcher in ([], ["--launcher", "slurm"]):
        assert main(["run", "-m", "naive", "-s", str(stream), *launcher, *words]) == 2
        assert f"{words[0]} is for --launcher ray, which was not given" in capsys.readouterr().err


def test_ray_must_be_installed(monkeypatch, capsys, stream):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "-m", "naive", "-s", str(stream), "--launcher", "ray"]) == 2
    assert capsys.readouterr().err == (
        "ctbench: --launcher ray needs ray, which is not installed: pip install 'ctbench[ray]'\n"
    )


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.filterwarnings("ignore")  # those of Ray's own modules
def test_an_address_where_nothing_listens_is_one_line(capsys, stream):
    assert main(["run", "-m", "naive", "-s", str(stream), "--launcher", "ray", "--address", "127.0.0.1:1"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("ctbench: no Ray cluster answers at '127.0.0.1:1': ")
    assert told.count("\n") == 1


def test_nodes_are_planned_for_the_device_of_the_workers(stream, monkeypatch):
    job = Job(method="naive", stream=stream, launcher="ray", ray="gpus=0.5")
    assert {each.device for each in read_inputs(job).arithmetic.values()} == {"cuda"}
    job = Job(method="naive", stream=stream, launcher="ray")
    assert {each.device for each in read_inputs(job).arithmetic.values()} == {"cpu"}


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_a_plan_for_a_cluster_gives_no_time_of_this_machine(launcher, stream):
    found = ctbench.plan(method="naive", stream=stream, launcher=launcher, progress=False)
    where = {"ray": "as workers of a Ray cluster", "slurm": "as jobs of a cluster"}[launcher]
    assert f" tokens, {where}, " in str(found)
    assert (found.total["workers"], found.total["wall_seconds"]) == (0, None)


def test_gpus_of_plan_are_for_slurm_alone():
    from ctbench.engine.forecast import forecast

    with pytest.raises(BadConfig, match="--gpus is for --launcher slurm"):
        forecast([Job(method="naive", stream="domain", launcher="ray")], gpus=4)


# what a machine of the cluster looks at


@pytest.fixture
def ask(stream, tmp_path, monkeypatch):
    """A function that asks an actor whether it can compute; keywords replace what it is told."""
    method = write_method(tmp_path, "def after_step(self, stage):\n    pass")
    nodes = [node for seed in (0, 1) for node in spec_of(stream, method, seed).nodes]
    token = tmp_path / "home" / ".ray-1"
    token.parent.mkdir()
    token.write_text(token.name)
    monkeypatch.chdir(tmp_path)

    def begin(**replaced):
        told = json.loads(_setup(nodes, [str(tmp_path / "home" / "store"), "c"], token, RayOptions()))
        return json.loads(WorkerActor(json.dumps(told | replaced)).begin())

    begin.method, begin.token = method, token
    return begin


def test_a_machine_with_everything_is_ready(ask):
    assert ask() == {"what": "ready"}


def test_a_machine_of_another_version_refuses(ask):
    told = ask(versions={"ctbench": "9.9"})
    assert (told["what"], told["code"]) == ("refused", 2)
    assert "submitted with other versions: ctbench 9.9 there" in told["reason"]


@pytest.mark.parametrize("text", [None, "another folder's"])
def test_a_machine_that_does_not_see_the_store_refuses(ask, text):
    ask.token.unlink()
    if text is not None:
        ask.token.write_text(text)
    assert "does not see" in ask()["reason"]
    assert "set CTBENCH_HOME" in ask()["reason"]


def test_a_machine_on_which_ctbench_does_not_start_refuses(ask, tmp_path, monkeypatch):
    (tmp_path / "other" / "ctbench").mkdir(parents=True)
    (tmp_path / "other" / "ctbench" / "__init__.py").write_text("raise ImportError('broken here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    told = ask()
    assert (told["what"], told["code"]) == ("refused", 2)
    assert told["reason"].startswith("ctbench does not start on the machine")
    assert told["reason"].endswith("ImportError: broken here")


def test_a_machine_without_a_plug_in_or_with_another_one_refuses(ask):
    ask.method.write_text(ask.method.read_text().replace("pass", "print()"))
    assert "method 'mine' is not the one that was submitted" in ask()["reason"]
    ask.method.unlink()
    assert "no method file" in ask()["reason"]


def test_a_machine_whose_store_is_full_refuses(ask, small_disk):
    told = ask(args=[str(small_disk / "store"), "c"])
    assert (told["what"], told["code"]) == ("refused", 2)
    assert f"the store '{small_disk / 'store'}' cannot be written (No space left on device)" in told["reason"]
    assert "free some space there, or set CTBENCH_HOME to another folder" in told["reason"]
