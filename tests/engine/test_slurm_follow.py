"""What the submitter makes of the queue, which programs play that answer from a script: no job runs here."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from fake_records import fake_node, stage_record

from ctbench.engine.launchers.agenda import Agenda
from ctbench.engine.slurm import follow, submit
from ctbench.engine.slurm.folder import new_launch
from ctbench.engine.slurm.options import read_slurm
from ctbench.engine.store import Store
from ctbench.errors import BadConfig

REQUEUED = ("RUNNING|None|n7", "COMPLETING|None|n7", "PENDING|BeginTime|", "PENDING|None|", "RUNNING|None|n7")
"""What squeue says about a job that is queued again, looked at every 30 ms on a real cluster."""
GONE = ""
"""A look at a queue that lacks the job."""

QUEUE = """
n=$(cat {folder}/looks 2>/dev/null || echo 0)
echo $((n + 1)) > {folder}/looks
job=$(cat {folder}/submitted 2>/dev/null || echo 0)
state=$(sed -n "$((n + 1))p" {folder}/states)
if [ "$state" = computed ]; then
  cp -r {folder}/ready/. {folder}/store
  echo '{{"what": "done", "key": "{key}"}}' >> {launch}/events/$job.jsonl
  state=
fi
[ -z "$state" ] || [ "$job" = 0 ] || echo "$job|$state"
"""
SBATCH = """
n=$(( $(cat {folder}/submitted 2>/dev/null || echo 0) + 1 ))
echo $n > {folder}/submitted
mkdir -p {launch}/events
echo '{{"what": "start", "key": "{key}"}}' > {launch}/events/$n.jsonl
echo "Submitted batch job $n"
"""


LIMITED_SBATCH = """
n=$(( $(cat {folder}/submitted 2>/dev/null || echo 0) + 1 ))
echo $n > {folder}/submitted
[ $n = 1 ] || {{ echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }}
echo "Submitted batch job $n"
"""
FULL_QUEUE = """
[ ! -e {folder}/submitted ] || printf '1_0|PENDING|Resources|\\n1_1|PENDING|Resources|\\n'
"""


def write_programs(folder, texts):
    """Write programs of SLURM, and return their folder."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in texts.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    return programs


def looks(folder):
    """Number of looks at the queue until now."""
    path = folder / "looks"
    return int(path.read_text()) if path.exists() else 0


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Programs of SLURM, and a function that follows one node while squeue says one thing after the other."""
    pytest.importorskip("submitit")
    node = fake_node("stage", {"batch": 8, "length": 32})
    launch = new_launch(tmp_path, [node], {})
    names = {"folder": tmp_path, "launch": launch.path, "key": node.key}
    texts = {"squeue": QUEUE, "sbatch": SBATCH, "srun": "exit 1", "scontrol": "exit 1", "scancel": "exit 0"}
    programs = write_programs(tmp_path, {name: text.format(**names) for name, text in texts.items()})
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(follow, "MIN_POLL_SECONDS", 0.01)
    monkeypatch.setattr(follow, "MAX_POLL_SECONDS", 0.01)
    store = Store(tmp_path / "store")
    with Store(tmp_path / "ready").writing(node.key, stage_record()):
        pass

    def run(*states, patience, silent=False, store=store):
        if silent:
            (programs / "sbatch").write_text((programs / "sbatch").read_text().replace("echo '{", ": '{"))
        monkeypatch.setattr(follow, "GONE_SECONDS", patience)
        # the first looks are those before and while the job is submitted
        (tmp_path / "states").write_text("\n".join((GONE, GONE, *states, "computed")) + "\n")
        lines, heard = [], []
        (tmp_path / "looks").unlink(missing_ok=True)
        agenda = Agenda([node], listen=lambda event: heard.append((event.what, looks(tmp_path))))
        follower = follow.Follower(
            agenda, store, launch, options=read_slurm(()), seconds={node.key: 1.0}, say=lines.append
        )
        follower.run()
        return SimpleNamespace(
            jobs=[each.job for each in launch.jobs()], lines=lines, heard=heard, failures=agenda.failures
        )

    return run


def test_a_requeued_job_is_followed_through_all_its_states_and_not_submitted_again(cluster):
    found = cluster(*REQUEUED, *REQUEUED, patience=0.0)
    assert found.jobs == ["1"]
    assert not any("submitted again" in line for line in found.lines)


def test_a_job_that_one_look_at_the_queue_lacks_is_not_over_yet(cluster):
    found = cluster("RUNNING|None|n7", GONE, *REQUEUED, GONE, "RUNNING|None|n7", patience=3600.0)
    assert found.jobs == ["1"]


@pytest.mark.parametrize("num_waiting", [0, 3])
def test_what_a_job_wrote_is_read_once_it_runs_and_not_while_it_waits(cluster, num_waiting):
    found = cluster(*["PENDING|Resources|"] * num_waiting, "RUNNING|None|n7", "RUNNING|None|n7", patience=0.0)
    assert found.heard[0] == ("start", 3 + num_waiting)


def test_a_job_that_left_the_queue_for_good_is_over_and_its_node_is_submitted_again(cluster):
    found = cluster("RUNNING|None|n7", GONE, GONE, "RUNNING|None|n8", patience=0.0)
    assert found.jobs == ["1", "2"]
    assert [line for line in found.lines if "job 1 is over and left 1 nodes, which are submitted again" in line]


def test_a_requeued_job_that_slurm_kills_counts_as_a_try(cluster):
    killed = ("RUNNING|None|n7", "PENDING|BeginTime|", GONE, GONE)  # as "Job credential revoked" ends one
    found = cluster(*killed, *killed, *killed, patience=0.0)
    assert found.jobs == ["1", "2", "3"]
    (failure,) = found.failures
    assert "its job ended 3 times before it was computed, the last was 3" in failure.reason


def test_a_job_that_could_write_nothing_is_not_taken_for_one_that_does_not_see_the_folder(
    cluster, small_disk, monkeypatch
):
    """A full disk makes a job silent; the submitter looks at the disk itself."""
    monkeypatch.setattr(follow, "SILENT_SECONDS", 0.0)
    with pytest.raises(BadConfig, match="must see this folder"):
        cluster("RUNNING|None|n7", GONE, GONE, patience=0.0, silent=True)
    with pytest.raises(BadConfig, match=r"the store '.*small disk.*' cannot be written \(No space left on device\)"):
        cluster("RUNNING|None|n7", GONE, GONE, patience=0.0, silent=True, store=Store(small_disk / "store"))


def test_the_jobs_of_an_array_are_known_and_cancelled_when_slurm_refuses_the_next_one(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    nodes = [fake_node("stage", {"batch": batch, "length": 32}) for batch in (8, 16, 32)]
    texts = {"squeue": FULL_QUEUE, "sbatch": LIMITED_SBATCH, "srun": "", "scancel": 'echo "$@" > {folder}/cancelled'}
    programs = write_programs(tmp_path, {name: text.format(folder=tmp_path) for name, text in texts.items()})
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(submit, "MAX_ARRAY", 2)
    launch, agenda = new_launch(tmp_path, nodes, {}), Agenda(nodes, listen=lambda event: None)
    follower = follow.Follower(
        agenda,
        Store(tmp_path / "store"),
        launch,
        options=read_slurm(()),
        seconds=dict.fromkeys((node.key for node in nodes), 1.0),
        say=print,
    )
    with pytest.raises(BadConfig, match="SLURM refuses the jobs: QOSMaxSubmitJobPerUserLimit"):
        follower.run()
    assert [(record.job, record.keys) for record in launch.jobs()] == [
        ("1_0", (nodes[0].key,)),
        ("1_1", (nodes[1].key,)),
    ]
    assert (tmp_path / "cancelled").read_text() == "1_0 1_1\n"
