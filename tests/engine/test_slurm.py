"""What the launcher for SLURM does without a cluster: its options, jobs, folders and refusals. `tests/cluster` has the rest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
from small_streams import spec_of, write_method, write_stream

from ctbench.cli import main
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.engine.launchers.agreement import check_nodes, check_versions, versions
from ctbench.engine.node import in_order
from ctbench.engine.slurm.folder import JobRecord, find_launch, launches, new_launch
from ctbench.engine.slurm.options import SlurmOptions, read_slurm
from ctbench.engine.slurm.process import computable
from ctbench.engine.slurm.queue import QueuedJob, queue, require_slurm
from ctbench.engine.slurm.shards import LEAVES, arrays, make_shards, read_by
from ctbench.engine.slurm.status import node_states
from ctbench.engine.slurm.submit import ShardJob, has_progressed
from ctbench.engine.store import Store
from ctbench.errors import BadConfig, BadPlugin, RunFailed, UnknownName


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp("slurm"))


@pytest.fixture(scope="module")
def runs(stream):
    return [spec_of(stream, method, seed) for method in ("naive", "lwf") for seed in (0, 1)]


def all_nodes(runs):
    return in_order(node for run in runs for node in run.nodes)


def script(folder, name, text):
    """A program of SLURM that answers with a text."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


# options


def test_keys_of_slurm_are_read_from_texts_and_mappings():
    text = read_slurm(["partition=long,gpus=1,time=1-12:30:00", "exclude=n1,n2"])
    assert text == SlurmOptions(partition="long", gpus=1, time=2190, exclude="n1,n2")
    assert text == read_slurm({"partition": "long", "gpus": 1, "time": "1-12:30:00", "exclude": "n1,n2"})
    assert text.device == "cuda"
    assert text.parameters()["gpus_per_node"] == 1
    assert read_slurm(()).device == "cpu"
    assert "gpus_per_node" not in read_slurm(()).parameters()


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("1:30", 2), ("02:00:01", 121), ("1-0", 1440), ("2-00:00:00", 2880)]
)
def test_times_are_those_of_slurm_rounded_up_to_minutes(text, minutes):
    assert read_slurm({"time": text}).time == minutes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gpu=1", "--slurm has no key 'gpu'; did you mean 'gpus'? known: partition, account"),
        ("gpus=one", "--slurm gpus is 'one'; expected a whole number from 0 to 4096"),
        ("gpus=-1", "--slurm gpus is '-1'"),
        ("cpus=0", "--slurm cpus is '0'; expected a whole number from 1"),
        ("time=soon", "--slurm time is 'soon'; expected minutes, HH:MM:SS or D-HH:MM:SS"),
        ("time=0", "--slurm time is '0'; expected more than no time"),
        ("time=1:75", "--slurm time is '1:75'"),
        ("time=1", "--slurm time is 1 min, and grace 90 s before its end a job stops to save; expected a longer time"),
        ("time=2,grace=120", "--slurm time is 2 min, and grace 120 s before its end"),
        ("mem=lots", "--slurm mem is 'lots'; expected a size such as 16G or 4000M"),
        ("partition=", "--slurm partition is ''; expected a name"),
        ("partition=a b", "--slurm partition is 'a b'"),
        ("gpus=1,gpus=2", "--slurm names gpus twice"),
        ("fast", "--slurm 'fast' is not of the form KEY=VALUE,KEY=VALUE"),
    ],
)
def test_wrong_keys_and_values_are_one_line(given, message, capsys, stream):
    with pytest.raises(BadConfig) as caught:
        read_slurm([given])
    assert str(caught.value).startswith(message)
    assert main(["run", "-m", "naive", "-s", str(stream), "--launcher", "slurm", "--slurm", given]) == 2
    assert capsys.readouterr().err.startswith(f"ctbench: {message}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--launcher", "slum"], "launcher is 'slum'; did you mean 'slurm'? allowed: local, slurm, ray"),
        (["--slurm", "gpus=1"], "--slurm is for --launcher slurm, which was not given"),
        *(
            (
                ["--launcher", launcher, "--device", "cuda"],
                f"--device is for --launcher local; --{launcher} gpus=1 (or gpus=0) says where nodes are computed",
            )
            for launcher in ("slurm", "ray")
        ),
    ],
)
def test_a_launcher_must_be_known_and_the_one_that_slurm_is_for(words, message, capsys, stream):
    assert main(["run", "-m", "naive", "-s", str(stream), *words]) == 2
    assert capsys.readouterr().err == f"ctbench: {message}\n"


# what must be there


def test_submitit_and_the_programs_of_slurm_must_be_there(tmp_path, monkeypatch, capsys, stream):
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    words = ["run", "-m", "naive", "-s", str(stream), "--launcher", "slurm"]
    assert main(words) == 2
    assert "needs the program sbatch, which is not on this machine" in capsys.readouterr().err
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        script(tmp_path / "programs", name, "exit 1")
    script(tmp_path / "programs", "sinfo", "echo 'slurm_load_partitions: Unable to contact' >&2; exit 1")
    assert main(words) == 2
    assert "SLURM does not answer: " in capsys.readouterr().err
    script(tmp_path / "programs", "sinfo", "echo main; echo long")
    require_slurm(read_slurm("partition=main"))
    with pytest.raises(BadConfig, match=r"partition is 'lang'; .* did you mean 'long'\? known: long, main"):
        require_slurm(read_slurm("partition=lang"))
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(words) == 2
    assert "needs submitit, which is not installed: pip install 'ctbench[slurm]'" in capsys.readouterr().err


def test_the_queue_is_read_and_a_silent_controller_is_not_an_empty_queue(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    script(tmp_path, "squeue", "echo '12_3|RUNNING|None|n7'; echo '13|PENDING|Dependency|'")
    found = queue()
    assert found == {
        "12_3": QueuedJob(state="RUNNING", reason="None", where="n7"),
        "13": QueuedJob(state="PENDING", reason="Dependency", where=""),
    }
    assert [job.is_running for job in found.values()] == [True, False]
    script(tmp_path, "squeue", "exit 0")
    assert queue() == {}
    script(tmp_path, "squeue", "exit 1")
    assert queue() is None


# devices


def test_nodes_are_planned_for_the_device_of_the_jobs(stream):
    job = Job(method="naive", stream=stream, launcher="slurm", slurm="gpus=1")
    assert {each.device for each in read_inputs(job).arithmetic.values()} == {"cuda"}
    job = Job(method="naive", stream=stream, launcher="slurm")
    assert {each.device for each in read_inputs(job).arithmetic.values()} == {"cpu"}


def test_auto_precision_for_a_gpu_elsewhere_is_refused(stream, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    job = Job(method="naive", stream=stream, launcher="slurm", slurm="gpus=1", precision="auto")
    with pytest.raises(BadConfig, match="no GPU to judge by; give --precision bf16 or fp32"):
        read_inputs(job)


# jobs


def test_stages_in_a_row_share_a_job_and_cells_wait_for_those_of_their_lm(runs):
    nodes = all_nodes(runs)
    shards = make_shards(nodes, dict.fromkeys((node.key for node in nodes), 60.0), minutes=10)
    assert sorted(node.key for shard in shards for node in shard.nodes) == sorted(node.key for node in nodes)
    place = {node.key: number for number, shard in enumerate(shards) for node in shard.nodes}
    chains = [shard for shard in shards if shard.nodes[0].kind == "stage"]
    assert [len(shard.nodes) for shard in chains] == [2] * 4
    for number, shard in enumerate(shards):
        outside = {place[key] for key in read_by(shard.nodes)} - {number}
        assert outside == shard.needs
        assert all(other < number for other in shard.needs)
        if shard.nodes[0].kind in LEAVES:
            assert len(shard.nodes) <= 12  # about ten minutes
    (chain_array,) = [each for each in arrays(shards) if shards[each[0]].nodes[0].kind == "stage"]
    assert len(chain_array) > 4  # row 0 waits for the base too


def test_minutes_decide_how_many_cells_share_a_job(runs):
    nodes = all_nodes(runs)
    seconds = dict.fromkeys((node.key for node in nodes), 60.0)

    def num_jobs(minutes):
        return sum(shard.nodes[0].kind in LEAVES for shard in make_shards(nodes, seconds, minutes=minutes))

    leaves = sum(node.kind in LEAVES for node in nodes)
    assert num_jobs(0) == leaves
    assert leaves > num_jobs(3) > num_jobs(30)


def test_arrays_come_behind_those_that_they_wait_for(runs):
    nodes = all_nodes(runs)
    shards = make_shards(nodes, dict.fromkeys((node.key for node in nodes), 1.0), minutes=1)
    done: set[int] = set()
    for numbers in arrays(shards):
        for number in numbers:
            assert shards[number].needs <= done
        done |= {*numbers}
    assert done == {*range(len(shards))}


# folders and processes of jobs


def test_nodes_have_the_same_keys_when_a_job_reads_them(runs, tmp_path):
    nodes = all_nodes(runs)
    folder = new_launch(tmp_path, nodes[1:], {"workers": 1})
    read = folder.nodes()
    assert [node.key for node in nodes] == list(read) == [node.key for node in read.values()]
    assert folder.plan()["keys"] == [node.key for node in nodes[1:]]
    assert folder.shard(folder.add_shard(["a", "b"])) == ("a", "b")
    assert [each.name for each in launches(tmp_path)] == [folder.name]
    assert find_launch(tmp_path, folder.name[:12]).path == folder.path
    with pytest.raises(UnknownName, match="no launch '1999'"):
        find_launch(tmp_path, "1999")


def test_a_job_computes_only_what_has_its_parents(runs):
    chain = [node for node in runs[0].nodes if node.kind == "stage"]
    base = chain[0].parents[0] if chain[0].parents else None
    done = {base.key} if base is not None else set()
    first = [node for node in chain if node.parents == chain[0].parents][:1]
    second = [node for node in chain if first[0] in node.parents]
    assert computable([*first, *second], done.__contains__) == [*first, *second]
    assert computable(second, done.__contains__) == []
    assert computable(first, {*done, first[0].key}.__contains__) == []


def test_other_versions_are_refused():
    check_versions(versions())
    with pytest.raises(BadConfig, match=r"ctbench 9\.9 there, \S+ here"):
        check_versions({**versions(), "ctbench": "9.9"})
    with pytest.raises(BadConfig, match=r"torch 1\.0 there"):
        check_versions({**versions(), "torch": "1.0"})


def test_plug_ins_that_are_missing_or_edited_are_refused(stream, tmp_path):
    method = write_method(tmp_path, "def after_step(self, stage):\n    pass")
    nodes = [node for node in spec_of(stream, method).nodes if node.kind == "stage"]
    keys = [node.key for node in nodes]
    check_nodes(nodes, keys)
    with pytest.raises(BadConfig, match="other keys here"):
        check_nodes(nodes, ["0" * 64] * len(keys))
    write_method(tmp_path, "def after_step(self, stage):\n    print()")
    with pytest.raises(BadPlugin, match="method 'mine' is not the one that was submitted"):
        check_nodes(nodes, keys)
    method.unlink()
    with pytest.raises(BadPlugin, match="no method file"):
        check_nodes(nodes, keys)


@pytest.mark.parametrize("left", [0, 64 * 1024], ids=["nothing left", "room for a line"])
def test_a_job_whose_store_is_full_says_so_in_one_line(runs, small_disk, left):
    folder = new_launch(small_disk, all_nodes(runs), {"workers": 1})
    shard = folder.add_shard([all_nodes(runs)[0].key])
    fill(small_disk, left)
    command = [sys.executable, "-m", "ctbench.engine.slurm.process", str(folder.path), str(shard), folder.token()]
    done = subprocess.run(command, env=os.environ | {"SLURM_JOB_ID": "7"}, capture_output=True, text=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("refused: the ")
    assert "cannot be written (No space left on device); free some space there, or set CTBENCH_HOME" in line
    assert "Traceback" not in done.stderr
    refused = [told["reason"] for told in folder.told("7") if told["what"] == "refused"]
    assert len(refused) == bool(left)
    assert all(f"the store '{small_disk / 'store'}' cannot be written" in reason for reason in refused)


def test_a_launch_whose_folder_is_full_says_so_in_one_line(runs, small_disk):
    folder = new_launch(small_disk, all_nodes(runs), {})
    fill(small_disk, 0)
    for write in (lambda: folder.add_shard(["a"]), lambda: folder.add_job(JobRecord(job="1", shard=0, keys=("a",)))):
        with pytest.raises(
            RunFailed, match=r"the launch '.*' cannot be written \(No space left on device\); free some space"
        ):
            write()
    with pytest.raises(RunFailed, match="No space left on device"):
        new_launch(small_disk, all_nodes(runs), {})


def fill(folder, left):
    """Leave so many bytes of a file system, or none."""
    with (folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    if left:
        os.truncate(folder / "fill", (folder / "fill").stat().st_size - left)


def test_a_job_that_made_no_progress_is_not_queued_again(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    folder = new_launch(tmp_path, all_nodes(runs), {})
    assert has_progressed(folder)  # it was stopped before it told anything
    folder.events("7").write_text('{"what": "begin"}\n{"what": "done"}\n{"what": "begin"}\n{"what": "start"}\n')
    assert not has_progressed(folder)
    assert ShardJob(folder.path, 0, folder.token(), uses_gpu=False).checkpoint() is None
    with folder.events("7").open("a") as file:
        file.write('{"what": "saved"}\n{"w')
    assert has_progressed(folder)
    again = ShardJob(folder.path, 0, folder.token(), uses_gpu=False).checkpoint()
    assert again.function.folder == folder.path


# status


def test_status_says_where_every_node_stands(runs, tmp_path):
    nodes = {node.title: node for node in runs[0].nodes if node.kind in ("stage", "cell")}
    first, second = nodes["stage 1 (domain-1)"], nodes["stage 2 (domain-2)"]
    cell = next(node for node in nodes.values() if node.kind == "cell" and node.parents == (second,))
    folder = new_launch(tmp_path, [first, second, cell], {})
    store = Store(tmp_path / "store")
    folder.add_job(JobRecord(job="5_0", shard=0, keys=(first.key, second.key)))
    folder.add_job(JobRecord(job="6", shard=1, keys=(cell.key,)))

    def states(live):
        return [(each.state, each.detail) for each in node_states(folder, store, live)]

    pending = {job: QueuedJob(state="PENDING", reason="Resources", where="") for job in ("5_0", "6")}
    assert states(pending) == [
        ("waiting", "job 5_0 waits for free machines"),
        ("waiting", "waits for stage 1 (domain-1)"),
        ("waiting", "waits for stage 2 (domain-2)"),
    ]
    start = f'{{"what": "begin"}}\n{{"what": "progress", "key": "{first.key}", "step": 10, "num_steps": 30}}\n'
    folder.events("5_0").write_text(start)
    running = {**pending, "5_0": QueuedJob(state="RUNNING", reason="None", where="n7")}
    assert states(running)[0] == ("running", "job 5_0 on n7, step 10 of 30")
    assert states({})[0] == ("left", "no job computes it; the same command submits it again")
    assert states(None)[0][0] == "waiting"
    with folder.events("5_0").open("a") as file:
        file.write(f'{{"what": "failed", "key": "{first.key}", "reason": "no luck"}}\n')
    assert states(running) == [
        ("failed", "no luck"),
        ("blocked", "needs stage 1 (domain-1), which failed"),
        ("blocked", "needs stage 2 (domain-2), which is blocked"),
    ]


def test_status_and_cancel_without_a_launch_or_a_cluster_are_plain_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "no launch yet: ctbench run ... --launcher slurm\n"
    assert main(["cancel"]) == 2
    assert "SLURM does not answer" in capsys.readouterr().err
    script(tmp_path / "programs", "squeue", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    assert main(["cancel"]) == 2
    assert capsys.readouterr().err == "ctbench: no launch has jobs in the queue; nothing is cancelled\n"
