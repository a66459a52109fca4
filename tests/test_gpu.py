"""What is asked about GPUs without torch; no GPU is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctbench import gpu, launch
from ctbench.graph import Node


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a driver that shows two GPUs, and a build of torch that could use them."""
    monkeypatch.setattr(gpu, "version", lambda _: "2.13.0+cu130")
    for name in ("CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "version").write_text("NVRM version: 1\n")
    for number in range(2):
        (tmp_path / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
    return tmp_path


def test_gpus_are_those_that_the_driver_shows(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.visible_gpus(driver) == ["0", "1"]
    assert gpu.visible_gpus(driver / "nothing") == []
    monkeypatch.setattr(gpu, "version", lambda _: "2.13.0+cpu")
    assert gpu.visible_gpus(driver) == []


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("CUDA_VISIBLE_DEVICES", "", []),
        ("CUDA_VISIBLE_DEVICES", "-1", []),
        ("CUDA_VISIBLE_DEVICES", "1", ["1"]),
        ("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b", ["GPU-a", "GPU-b"]),
        ("ACCELERATE_USE_CPU", "true", []),
        ("ACCELERATE_USE_CPU", "false", ["0", "1"]),
        ("ACCELERATE_TORCH_DEVICE", "cpu", []),
        ("ACCELERATE_TORCH_DEVICE", "cuda:1", ["0", "1"]),
    ],
)
def test_the_environment_hides_gpus(
    name: str, value: str, wanted: list[str], driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert gpu.visible_gpus(driver) == wanted


def test_each_worker_gets_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(launch, "visible_gpus", lambda: ["a", "b"])
    assert [launch.worker_environment(index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["a", "b", "a"]
    monkeypatch.setattr(launch, "visible_gpus", lambda: ["0"])
    assert "CUDA_VISIBLE_DEVICES" not in launch.worker_environment(0)


def test_there_is_a_worker_per_gpu_or_else_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Node(kind="cell", identity={"number": number}, how={"threads": 1}) for number in range(4)]
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(launch, "visible_gpus", lambda: ["a", "b", "c"])
    assert [launch.auto_workers(nodes[:count]) for count in (0, 2, 4)] == [1, 2, 3]
    monkeypatch.setattr(launch, "visible_gpus", list)
    assert [launch.auto_workers(nodes[:count]) for count in (1, 4)] == [1, 2]
