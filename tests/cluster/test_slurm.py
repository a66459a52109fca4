"""Grids on a real SLURM: bit-identical to the local launcher, whatever happens to jobs, controller and submitter."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from place import gate
from runs import computed, needs_hiding, num_steps, numbers, refused

from ctbench.machine.claims import read_owner

pytestmark = pytest.mark.cluster


def events(home: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted(home.glob("launches/*/events/*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def whats(home: Path) -> Counter[str]:
    return Counter(line["what"] for line in events(home))


def jobs(home: Path) -> list[str]:
    lines = [line for path in sorted(home.glob("launches/*/jobs.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line)["job"] for line in lines]


def job_in_stage(home: Path) -> str:
    """The job that computes a stage and has saved a checkpoint; empty if none does."""
    if not list(home.rglob("*.checkpoints/step-*")):
        return ""
    paths = [path for path in home.glob("launches/*/events/*.jsonl") if '"progress"' in path.read_text()]
    return paths[0].stem if paths else ""


def process_in_stage(home: Path) -> int:
    """The process that computes a stage."""
    (checkpoints,) = home.rglob("*.checkpoints")
    owner = read_owner(checkpoints.with_suffix(".claim"))
    return 0 if owner is None else owner.process


def is_gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def test_a_grid_of_three_methods_and_two_seeds_is_bit_identical_to_the_local_launcher(place, grid):
    there = place.folder / "grid"
    options = ("--launcher", "slurm", "--slurm", "partition=main,time=00:10:00,cpus=1,minutes=1")
    cluster = place.start(*grid.words, "--results", there.with_suffix(".results"), *options, home=there)
    assert cluster.end()[0] == 0, cluster.errors
    assert numbers(there) == numbers(grid.home)
    assert len(numbers(there)) == 6
    assert sum("_" in job for job in jobs(there)) >= 6  # the chains of stages are an array


def test_jobs_that_are_killed_or_preempted_in_a_stage_resume_and_end_the_same(place):
    ask = place.cluster.ask
    homes = {how: place.home(how) for how in ("killed", "requeued", "noticed")}
    commands = {how: place.run(home=home, held=True) for how, home in homes.items()}
    found = {how: command.until(lambda how=how: job_in_stage(homes[how])) for how, command in commands.items()}
    killed = process_in_stage(homes["killed"])
    ask("scancel", "--signal=KILL", "--full", found["killed"])
    commands["killed"].until(lambda: is_gone(killed))
    gate(homes["killed"]).touch()
    ask("scontrol", "requeue", found["requeued"])
    ask("scancel", "--signal=USR2", found["noticed"])  # what SLURM sends before the time limit
    for how in ("requeued", "noticed"):  # SLURM would let them wait for two minutes
        query = ("squeue", "--noheader", "--array", f"--jobs={found[how]}", "--format=%r")
        commands[how].until(lambda query=query: "BeginTime" in ask(*query))
        gate(homes[how]).touch()
        # not at once: SLURM kills a job that starts in the second in which its first start's credential was revoked
        ask("scontrol", "update", f"JobId={found[how]}", "StartTime=now+2")
    for how, command in commands.items():
        assert command.end()[0] == 0, command.errors
        assert numbers(homes[how]) == numbers(place.folder / "reference")
        assert whats(homes[how])["resuming"] >= 1
        assert (f"job {found[how]} is over and left" in command.errors) == (how == "killed")
        if how != "killed":
            assert whats(homes[how])["saved"] == 1
            assert set(num_steps(homes[how]).values()) == {1}  # no update was lost


def test_a_job_that_is_killed_each_time_fails_its_nodes_and_names_its_log(place):
    home = place.home("hopeless")
    command = place.run("--slurm", "tries=2", home=home, held=True)
    for count in (1, 2):
        command.until(lambda count=count: len(in_stage(home)) == count)
        place.cluster.ask("scancel", "--signal=KILL", "--full", in_stage(home)[-1])
    code, _ = command.end()
    assert code == 1
    (failed,) = [line for line in command.errors.splitlines() if line.startswith("failed: ") and "stage 1" in line][-1:]
    log = Path(failed.rpartition("log: ")[2])
    assert "its job ended 2 times before it was computed" in failed
    assert "start: stage 1" in log.read_text()


def in_stage(home: Path) -> list[str]:
    """The jobs that told of progress in a stage, or that they resume one."""
    told = {job: path.read_text() for job in jobs(home) for path in home.glob(f"launches/*/events/{job}.jsonl")}
    return [job for job, text in told.items() if "loss" in text or "resuming" in text]


def test_a_controller_that_restarts_loses_nothing(place):
    home = place.home("restarted")
    command = place.run(home=home, held=True)
    command.until(lambda: job_in_stage(home))
    place.cluster.stop_controller()
    try:
        command.until(lambda: "SLURM does not answer" in command.errors)
    finally:
        place.cluster.start_controller()
    gate(home).touch()
    code, _ = command.end()
    assert code == 0, command.errors
    assert "SLURM answers again" in command.errors
    assert numbers(home) == numbers(place.folder / "reference")
    assert set(num_steps(home).values()) == {1}
    assert "submitted again" not in command.errors


def test_two_submitters_on_one_store_compute_nothing_twice(place):
    home = place.home("shared")
    both = [place.run(home=home, held=True) for _ in range(2)]
    for command in both:
        # nodes, or that another call's jobs have them
        command.until(lambda command=command: "submitted" in command.errors)
    both[0].until(lambda: job_in_stage(home))
    gate(home).touch()
    for command in both:
        assert command.end()[0] == 0, command.errors
    assert numbers(home) == numbers(place.folder / "reference")
    assert set(num_steps(home).values()) == {1}


def test_an_interrupt_leaves_the_jobs_running_and_status_and_cancel_find_them(place):
    home = place.home("left")
    first = place.run(home=home, held=True)
    job = first.until(lambda: job_in_stage(home))
    first.process.send_signal(signal.SIGINT)
    assert first.end()[0] == 130
    (launch,) = home.glob("launches/*")
    assert f"ctbench cancel {launch.name}" in first.errors

    (told,) = json.loads(place.start("status", "--json", home=home).end()[1])
    states = {node["title"]: node for node in told["nodes"]}
    stage = next(node for node in told["nodes"] if node["kind"] == "stage")
    assert (stage["state"], stage["job"]) == ("running", job)
    assert place.cluster.host in stage["detail"]
    assert "of 30" in stage["detail"]
    assert any(node["state"] == "waiting" and node["detail"].startswith("waits for stage") for node in states.values())
    assert "running: stage" in place.start("status", home=home).end()[1]

    assert place.start("cancel", home=home).end()[0] == 0
    second = place.run(home=home)
    assert second.end()[0] == 0, second.errors
    assert whats(home)["saved"] == 1
    assert whats(home)["resuming"] == 1
    assert numbers(home) == numbers(place.folder / "reference")
    assert set(num_steps(home).values()) == {1}


def test_the_same_command_follows_the_jobs_that_are_there(place):
    home = place.home("followed")
    first = place.run(home=home, held=True)
    first.until(lambda: job_in_stage(home))
    first.process.send_signal(signal.SIGINT)
    assert first.end()[0] == 130
    before = jobs(home)
    second = place.run(home=home)
    second.until(lambda: "that were submitted before" in second.errors)
    gate(home).touch()
    assert second.end()[0] == 0, second.errors
    assert jobs(home) == before
    assert numbers(home) == numbers(place.folder / "reference")


def test_jobs_that_never_start_are_named_and_a_cancelled_launch_ends_its_submitter(place):
    home = place.home("stuck")
    command = place.run("--slurm", "partition=short", home=home)
    command.until(lambda: "never starts: --slurm time is above the limit of the partition" in command.errors)
    assert place.start("cancel", home=home).end()[0] == 0
    assert command.end()[0] == 1
    assert "cancelled by `ctbench cancel`; run the same command to resume" in command.errors
    assert place.cluster.ask("squeue", "--noheader").strip() == ""


def test_unknown_partitions_and_what_slurm_refuses_are_one_line(place):
    home = place.home("partition")
    refused(place.run("--slurm", "partition=man", home=home), "no such partition; did you mean 'main'?")
    refused(place.run("--slurm", "nodelist=nowhere", home=home), "SLURM refuses the jobs: ", "node")
    assert jobs(home) == []


def test_a_worker_of_another_version_refuses_before_it_computes(place):
    home = place.home("versions")
    other = place.folder / "other" / "ctbench-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: ctbench\nVersion: 9.9.9\n")
    command = place.run("--slurm", f"setup=export PYTHONPATH={other.parent}", home=home)
    refused(command, "submitted with other versions: ctbench 0.1.0 there, 9.9.9 here", "log: ")
    assert whats(home)["start"] == 0


def test_a_store_that_jobs_do_not_see_is_refused(place):
    needs_hiding(place)
    home = place.cluster.private / "home"
    shutil.copytree(place.home("unshared"), home)
    refused(place.run(home=home), "left nothing in", "must see this folder", "exit code")


@pytest.mark.parametrize("left", ["0", "64K"], ids=["nothing left", "room for a line"])
def test_a_full_file_system_or_quota_is_refused(place, left):
    if not place.cluster.has_small:
        pytest.skip("this machine mounts no file system, so none can be filled")
    home = place.cluster.small / "home"
    shutil.copytree(place.home(f"full-{left}"), home)
    before = computed(home)
    fill = f"cat /dev/zero > {home}/fill; truncate --size=-{left} {home}/fill"
    try:
        command = place.run("--slurm", f"setup={fill}", home=home)
        refused(
            command, f"the store '{home}/store' cannot be written (No space left on device)", "free some space there"
        )
        assert not list(home.glob("store/??/*.claim"))
        assert computed(home) == before
    finally:
        shutil.rmtree(home)


def test_a_plug_in_that_jobs_do_not_see_is_refused(place):
    needs_hiding(place)
    for command, home, lacking in place.with_hidden_plug_ins():
        refused(command, lacking, f"on {place.cluster.host}")
        assert whats(home)["start"] == 0
