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


def nodes(count: int, model: str = "tiny") -> list[Node]:
    how = {"threads": 1, "model": model}
    return [Node(kind="cell", identity={"number": number}, how=how) for number in range(count)]


def test_there_is_a_worker_per_core_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(launch, "visible_gpus", list)
    assert [launch.auto_workers(nodes(count)) for count in (0, 1, 4)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("gpus", "num_cores", "free", "num_nodes", "wanted"),
    [
        (["a"], 16, [80], 40, 4),  # no more than pays
        (["a"], 4, [80], 40, 2),  # two cores for each
        (["a"], 16, [9], 40, 2),  # what fits
        (["a", "b"], 16, [80, 9], 40, 4),  # the smaller one decides, for they are dealt out in turn
        (["a", "b"], 2, [80, 80], 40, 2),  # at least one each
        (["a"], 16, [0], 40, 1),  # not told
        (["a"], 16, [80], 3, 3),
        (["a"], 16, [80], 0, 1),
    ],
)
def test_workers_share_a_gpu_where_cores_and_memory_allow(
    gpus: list[str],
    num_cores: int,
    free: list[int],
    num_nodes: int,
    wanted: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _: set(range(num_cores)), raising=False)
    monkeypatch.setattr(launch, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(launch, "free_memory", lambda _: [size * 2**30 for size in free])
    assert launch.auto_workers(nodes(num_nodes)) == wanted


def test_a_large_model_has_a_gpu_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * 2**30)  # a hole: 75 GiB by our reckoning
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(launch, "visible_gpus", lambda: ["a"])
    monkeypatch.setattr(launch, "free_memory", lambda _: [140 * 2**30])
    assert launch.auto_workers(nodes(9, str(tmp_path))) == 1
    assert launch.auto_workers(nodes(9)) == 4


def test_free_memory_is_that_of_the_gpus_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.free_memory(["0"]) == [0]  # no such tool
    tool.write_text("#!/bin/sh\necho '0, GPU-aa11, 10'; echo '1, GPU-bb22, 20'\n")
    tool.chmod(0o755)
    assert gpu.free_memory(["1", "0", "GPU-bb", "GPU-aa11", "7", "MIG-cc"]) == [
        size * 2**20 for size in (20, 10, 20, 10, 0, 0)
    ]
    tool.write_text("#!/bin/sh\necho 'no devices were found'\n")
    assert gpu.free_memory(["0"]) == [0]
