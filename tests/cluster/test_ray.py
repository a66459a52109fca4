"""A grid on a real Ray cluster: bit-identical to the local launcher, whatever happens to its workers."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from place import Place
from ray_cluster import RayCluster
from runs import computed, needs_hiding, num_steps, numbers, refused

from ctbench.machine.claims import read_owner

pytestmark = pytest.mark.cluster


def workers(home: Path) -> dict[str, int]:
    """The processes that compute nodes, by key."""
    owners = {path.stem: read_owner(path) for path in home.glob("store/??/*.claim")}
    return {key: owner.process for key, owner in owners.items() if owner is not None}


def any_worker(home: Path) -> int:
    return next(iter(workers(home).values()), 0)


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_grid_whose_workers_are_killed_is_bit_identical_to_the_local_launcher(ray_place, grid):
    home = ray_place.folder / "ray-grid"
    results = home.with_suffix(".results")
    command = ray_place.start(*grid.words, "--results", results, "--launcher", "ray", home=home)
    command.until(lambda: len(computed(home)) >= 2)
    process_of_ray = parent(command.until(lambda: any_worker(home)))
    os.kill(process_of_ray, signal.SIGKILL)  # as if the machine were lost
    command.until(lambda: "tried again at once" in command.errors)
    before = len(computed(home))
    command.until(lambda: len(computed(home)) > before)
    os.kill(command.until(lambda: any_worker(home)), signal.SIGKILL)  # the process that it keeps
    code, _ = command.end()
    assert code == 0, command.errors
    assert "its worker was lost" in command.errors
    assert "killed by signal 9 (SIGKILL)" in command.errors
    assert numbers(home) == numbers(grid.home)
    assert len(numbers(home)) == 6
    assert not list(home.glob(".ray-*"))


def test_an_interrupt_saves_a_checkpoint_and_the_same_command_resumes(ray_place):
    home = ray_place.home("ray-left")
    first = ray_place.run(home=home, held=True)
    first.until(lambda: list(home.rglob("*.checkpoints/step-*")))
    assert workers(home)
    first.process.send_signal(signal.SIGINT)
    assert first.end()[0] == 130
    assert "checkpoint saved at step" in first.errors
    assert workers(home) == {}
    second = ray_place.run(home=home)
    assert second.end()[0] == 0, second.errors
    assert "resuming from step" in second.errors
    assert numbers(home) == numbers(ray_place.folder / "reference")
    assert set(num_steps(home).values()) == {1}  # no update was lost


def test_a_node_that_loses_its_worker_each_time_fails(ray_place):
    home = ray_place.home("ray-hopeless")
    command = ray_place.run(home=home, held=True)
    command.until(lambda: list(home.rglob("*.checkpoints/step-*")))
    key = next(home.rglob("*.checkpoints")).stem
    killed: list[int] = []
    for _ in range(3):
        command.until(lambda: workers(home).get(key) not in (None, *killed))
        killed.append(workers(home)[key])
        os.kill(parent(killed[-1]), signal.SIGKILL)
    code, _ = command.end()
    assert code == 1
    assert "(3 workers were lost at it)" in command.errors


def test_a_store_that_workers_do_not_see_is_refused(ray_place):
    needs_hiding(ray_place)
    home = ray_place.cluster.private / "home"
    shutil.copytree(ray_place.home("ray-unshared"), home)
    before = computed(home)
    refused(ray_place.run(home=home), f"does not see '{home}'", "set CTBENCH_HOME")
    assert computed(home) == before


def test_a_plug_in_that_workers_do_not_see_is_refused(ray_place):
    needs_hiding(ray_place)
    before = computed(ray_place.home("ray-untouched"))
    for command, home, lacking in ray_place.with_hidden_plug_ins():
        refused(command, lacking, f"on {ray_place.cluster.host}")
        assert computed(home) == before


def test_a_worker_of_another_version_is_refused(held_run, ray_cluster, tmp_path):
    other = tmp_path / "ctbench-9.9.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: ctbench\nVersion: 9.9.9\n")
    folder = ray_cluster.folder / "other"
    folder.mkdir()
    with RayCluster(folder, {"PYTHONPATH": str(tmp_path)}) as cluster:
        place = Place(held_run, cluster)
        home = place.home("ray-versions")
        before = computed(home)
        refused(place.run(home=home), "submitted with other versions: ctbench 0.1.0 there, 9.9.9 here")
        assert computed(home) == before
