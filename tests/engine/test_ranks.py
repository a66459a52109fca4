"""Runs with several ranks: keys, what plan says, refusals, and the numbers of one process."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from fake_records import fake_node, stage_record
from small_streams import spec_of, write_method, write_stream

from ctbench.cli import main
from ctbench.engine.compute import Executor
from ctbench.engine.job import Job
from ctbench.engine.otherranks import other_ranks
from ctbench.engine.recipes import recipe_remarks
from ctbench.engine.run import require_launcher
from ctbench.engine.store import Store
from ctbench.errors import BadConfig
from ctbench.machine.launched import is_follower, local_rank, num_ranks
from ctbench.plugins.find import find_plugins
from ctbench.results.files import read_results

ENVIRONMENT = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
QUICK = {
    **dict.fromkeys(("num_documents", "num_general_documents"), "60"),
    "tokens": "800",
    "batch": "5",
    "length": "16",
    "max_length": "16",
    "held_out_tokens": "160",
    "epochs": "1",
    "seeds": "[0]",
    "num_train": "16",
    "num_validation": "0",
}
"""Stages of ten updates, in which two ranks take three rows and two."""
SHORT = ["--set", "das.importance_blocks=4", "--set", "ewc.num_examples=4", "--set", "mer.interval=4"]
ONE_ANSWER = 1 / 40


@pytest.fixture
def of_two(monkeypatch):
    """The environment of the second of two ranks."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def keys(graph):
    return {
        "stages": [node.key for node in graph.stages],
        "row 0": [node.key for (source, *_), node in graph.cells.items() if source == 0],
        "base": graph.base.key,
    }


def test_the_number_of_ranks_belongs_to_the_keys_of_stages_and_leaves_those_of_one_process(tmp_path, monkeypatch):
    stream = write_stream(tmp_path)
    alone = keys(spec_of(stream))
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert keys(spec_of(stream)) == alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    two = keys(spec_of(stream))
    monkeypatch.setenv("WORLD_SIZE", "3")
    three = keys(spec_of(stream))
    assert len({*alone["stages"], *two["stages"], *three["stages"]}) == 6
    assert (two["base"], two["row 0"]) == (alone["base"], alone["row 0"])


def test_parts_and_recomputed_layers_belong_to_keys_only_if_they_are_asked_for(tmp_path):
    stream = write_stream(tmp_path)
    plain = keys(spec_of(stream))
    assert (
        keys(spec_of(stream, settings={"pretrain.accumulate": 1, "pretrain.checkpoint_activations": "false"})) == plain
    )
    for setting in ({"pretrain.accumulate": 2}, {"pretrain.checkpoint_activations": "true"}):
        other = keys(spec_of(stream, settings=setting))
        assert not {*other["stages"]} & {*plain["stages"]}
        assert other["row 0"] == plain["row 0"]


def test_weights_in_shards_belong_to_keys_if_they_are_asked_for_and_never_to_the_protocol(tmp_path):
    stream = write_stream(tmp_path)
    plain, sharded = spec_of(stream), spec_of(stream, settings={"pretrain.shard_weights": "true"})
    assert not {*keys(sharded)["stages"]} & {*keys(plain)["stages"]}
    assert keys(sharded)["row 0"] == keys(plain)["row 0"]
    assert sharded.inputs.protocol == plain.inputs.protocol


def test_methods_that_need_whole_weights_are_refused_before_anything_is_computed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    words = ["--method", "naive,das", "--stream", str(write_stream(tmp_path)), "--set", "pretrain.shard_weights=true"]
    assert main(["run", *words, "--results", str(tmp_path / "results")]) == 2
    told = capsys.readouterr().err
    assert "method das edits gradients or weights between updates (after_backward, after_step)" in told
    assert "method naive" not in told
    assert not list((tmp_path / "home" / "store").glob("??/*"))


def test_shards_in_one_process_are_remarked_upon(tmp_path, monkeypatch):
    stream = spec_of(write_stream(tmp_path), settings={"pretrain.shard_weights": "true"}).inputs.stream
    (line,) = recipe_remarks(stream, "tiny")
    assert "one process holds everything whole; for shards use torchrun" in line
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert recipe_remarks(stream, "tiny") == ()


def test_compiled_layers_are_not_computed_again(tmp_path):
    with pytest.raises(BadConfig, match="compiled layers cannot be computed again"):
        spec_of(write_stream(tmp_path), settings={"pretrain.compiled": "true", "pretrain.accumulate": 2})


def test_plan_names_stages_that_the_store_has_for_another_number_of_ranks(tmp_path, monkeypatch):
    stream, store = write_stream(tmp_path), Store(tmp_path / "store")
    alone = spec_of(stream)
    assert other_ranks(alone.nodes, store) == ()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for node in spec_of(stream).stages:
        with store.writing(node.key, stage_record()):
            pass
    monkeypatch.delenv("WORLD_SIZE")
    (line,) = other_ranks(alone.nodes, store)
    assert line.startswith("2 stages to compute with one process are in the store for 2 ranks")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert other_ranks(spec_of(stream).nodes, store) == ()


def test_a_rank_knows_its_place(of_two):
    assert (num_ranks(), local_rank(), is_follower()) == (2, 1, True)


def test_without_a_launcher_there_is_one_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert (num_ranks(), local_rank(), is_follower()) == (1, 0, False)


def test_followers_leave_everything_but_run_to_the_first_rank(of_two, capsys):
    assert main(["ls", "methods"]) == 0
    assert main(["run", "--dry-run", "--method", "no such", "--stream", "domain"]) == 0
    assert capsys.readouterr().out == ""


def run_line(tmp_path, capsys):
    arguments = ["--method", "naive", "--stream", str(write_stream(tmp_path)), "--results", str(tmp_path / "results")]
    code = main(["run", *arguments])
    lines = capsys.readouterr().err.splitlines()
    return code, lines[-1] if lines else ""


def test_a_launcher_that_started_one_process_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    code, line = run_line(tmp_path, capsys)
    assert code == 2
    assert line.startswith("ctbench: accelerate launch has started a single process")
    assert not (tmp_path / "home").exists()


def test_ranks_that_cannot_find_each_other_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, line = run_line(tmp_path, capsys)
    assert code == 2
    assert line.startswith("ctbench: WORLD_SIZE is 2, and RANK, MASTER_ADDR, MASTER_PORT is not set; use torchrun")


@pytest.mark.parametrize("options", [{"workers": 2}, {"launcher": "slurm", "slurm": {"partition": "p"}}])
def test_ranks_take_no_workers_and_no_jobs(of_two, options):
    with pytest.raises(BadConfig, match="2 ranks compute all nodes themselves"):
        require_launcher(Job(method="naive", stream="domain", **options))


def test_a_stage_of_other_ranks_is_not_trained_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    stage = spec_of(write_stream(tmp_path)).stages[0]
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(BadConfig, match="planned for 2 ranks, and 1 would train it"):
        Executor(Store(tmp_path / "store"), tmp_path / "corpora").compute(stage.spec())


def test_made_up_stages_have_one_rank():
    assert fake_node("stage", {}).identity.ranks is None


def torchrun(folder, size, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CTBENCH_HOME": str(folder / "home")}
    return subprocess.run(
        [*command, "-m", "ctbench", *arguments], env=environment, capture_output=True, text=True, cwd=folder
    )


def by_method(folder):
    return {result.method.name: result for result in read_results(folder).results}


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_scores_with_ranks_as_in_one_process(tmp_path, monkeypatch, size):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream, names = write_stream(tmp_path, **QUICK), ",".join(find_plugins("method"))
    arguments = ["run", "--method", names, "--stream", str(stream), *SHORT]
    assert main([*arguments, "-q", "--results", str(tmp_path / "alone"), "--workers", "1"]) == 0
    done = torchrun(tmp_path, size, *arguments, "-q", "--results", str(tmp_path / "ranks"))
    assert done.returncode == 0, done.stderr[-3000:]
    alone, found = by_method(tmp_path / "alone"), by_method(tmp_path / "ranks")
    assert found.keys() == alone.keys() == {*find_plugins("method")}
    for name, result in found.items():
        assert result.stages[0].notes["ranks"] == size
        np.testing.assert_allclose(result.lm_loss, alone[name].lm_loss, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(result.matrix, alone[name].matrix, atol=ONE_ANSWER + 1e-9, err_msg=name)


@pytest.mark.slow
def test_runs_in_shards_score_as_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream, names = write_stream(tmp_path, **QUICK), "naive,replay,lora,ewc"
    arguments = ["run", "--method", names, "--stream", str(stream), "--set", "ewc.num_examples=4"]
    assert main([*arguments, "-q", "--results", str(tmp_path / "alone"), "--workers", "1"]) == 0
    sharded = ["--set", "pretrain.shard_weights=true", "--set", "pretrain.probes=2"]
    done = torchrun(tmp_path, 2, *arguments, *sharded, "-q", "--results", str(tmp_path / "ranks"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "view tensor" not in done.stderr
    alone, found = by_method(tmp_path / "alone"), by_method(tmp_path / "ranks")
    assert found.keys() == alone.keys()
    for name, result in found.items():
        assert result.protocol == alone[name].protocol
        np.testing.assert_allclose(result.lm_loss, alone[name].lm_loss, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(result.matrix, alone[name].matrix, atol=ONE_ANSWER + 1e-9, err_msg=name)


STOPS = """
def after_step(self, stage):
    import os, pathlib, signal, time
    how, mark = os.environ.get("STOPS"), pathlib.Path(os.environ["CTBENCH_HOME"]) / "stopped"
    if stage.step == 13 and os.environ.get("RANK") == "1" and how and not mark.exists():
        mark.touch()
        if how == "torchrun":
            os.kill(os.getppid(), signal.SIGTERM)
            while not signal.getsignal(signal.SIGTERM).number:  # until torchrun hands it on
                time.sleep(0.01)
        else:
            os.kill(os.getpid(), signal.SIGKILL)
"""
RETURNS = """    return super().loss(stage, batch)
"""


@pytest.mark.slow
@pytest.mark.parametrize("sharded", ["false", "true"])
def test_ranks_that_are_stopped_or_killed_resume_bit_for_bit(tmp_path, monkeypatch, sharded):
    body = (
        STOPS if sharded == "false" else STOPS.replace("after_step(self, stage)", "loss(self, stage, batch)") + RETURNS
    )
    stream, method = write_stream(tmp_path, **{**QUICK, "tokens": "1_600"}), write_method(tmp_path, body)
    arguments = ["run", "--method", str(method), "--stream", str(stream), "-v", "--checkpoint-seconds", "0"]
    arguments += ["--set", f"pretrain.shard_weights={sharded}"]
    found = []
    for stops in ("", "torchrun", "one rank"):
        folder = tmp_path / f"stops-{stops}"
        folder.mkdir()
        monkeypatch.setenv("STOPS", stops)
        done = torchrun(folder, 2, *arguments, "--results", "results")
        if stops:
            assert done.returncode != 0
            assert not list(folder.glob("results/**/*.json"))
            done = torchrun(folder, 2, *arguments, "--results", "results")
            assert f"resuming from step {14 if stops == 'torchrun' else 10} of 20" in done.stderr
        assert done.returncode == 0, done.stderr[-3000:]
        (result,) = read_results(folder / "results").results
        found.append([stage.weights_digest for stage in result.stages])
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_accelerate_launch_on_cpus_is_refused(tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "ctbench"]
    arguments = ["run", "--method", "naive", "--stream", str(write_stream(tmp_path)), "--results", str(tmp_path / "r")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode != 0
    assert "ctbench: accelerate launch has started a single process" in done.stderr


@pytest.mark.slow
def test_a_failing_stage_ends_all_ranks_with_one_line(tmp_path):
    stream, method = (
        write_stream(tmp_path, **QUICK),
        write_method(tmp_path, "def begin(self, stage):\n    raise KeyError('x')"),
    )
    done = torchrun(tmp_path, 2, "run", "--method", str(method), "--stream", str(stream), "-q", "--results", "r")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith(("ctbench: ", "failed: "))]
    assert [line.partition(",")[0] for line in lines] == ["ctbench: 1 node failed", "failed: mine on small"]
