"""What is asked about GPUs without torch; no GPU is needed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_records import fake_node
from small_streams import spec_of, write_stream

from ctbench.engine.launchers import capacity as workers
from ctbench.engine.launchers import process as launch
from ctbench.engine.node import Node
from ctbench.errors import BadConfig
from ctbench.machine import gpus as gpu
from ctbench.machine.device import device


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


def test_the_gpu_of_a_mac_is_used_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "version", lambda _: "2.13.0")
    for name in ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpu.sys, "platform", "darwin")
    assert gpu.accelerator() == "cpu"
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "mps")
    assert gpu.accelerator() == "mps"


def test_each_worker_gets_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(launch, "visible_gpus", lambda: ["a", "b"])
    assert [launch.worker_environment(index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["a", "b", "a"]
    monkeypatch.setattr(launch, "visible_gpus", lambda: ["0"])
    assert "CUDA_VISIBLE_DEVICES" not in launch.worker_environment(0)


def test_workers_keep_freed_memory_and_a_bench_rival_does_not_have_to() -> None:
    assert launch.worker_environment()["MALLOC_MMAP_MAX_"] == "0"
    code = "import os; print(os.environ.get('MALLOC_MMAP_MAX_'))"
    answers = []
    for keeps in (True, False):
        process = launch.start_serving("timeit", "-n1", "-r1", code, keeps_freed=keeps)
        answers.append(process.communicate()[0].splitlines()[0])
    assert answers == ["0", "None"]


GIB = 2**30


def cells(count: int) -> list[Node]:
    recipe = {"batch": 32, "max_length": 64}
    return [fake_node("cell", recipe | {"number": number}, precision="bf16") for number in range(count)]


def stage(batch: int, *parents: Node, seed: int = 0, model: str = "tiny", precision: str = "bf16") -> Node:
    recipe = {"batch": batch, "length": 64, "mask_fraction": 0.15, "objective": "auto", "seed": seed}
    made = fake_node("stage", recipe, precision=precision)
    return replace(made, lookup=replace(made.lookup, model=model), parents=parents)


def test_there_is_a_worker_per_core_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(workers, "visible_gpus", list)
    monkeypatch.setattr(workers, "accelerator", lambda: "cpu")
    assert [workers.auto_workers(cells(count)) for count in (0, 1, 4)] == [1, 1, 2]
    monkeypatch.setattr(workers, "accelerator", lambda: "mps")
    assert workers.auto_workers(cells(4)) == 1


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function from GPUs, cores, free GiB of each GPU and nodes to the number of workers."""

    def count(gpus: list[str], num_cores: int, free: list[float], nodes: list[Node]) -> int:
        monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(num_cores)), raising=False)
        monkeypatch.setattr(workers, "visible_gpus", lambda: gpus)
        monkeypatch.setattr(workers, "free_memory", lambda _: [round(size * GIB) for size in free])
        return workers.auto_workers(nodes)

    return count


@pytest.mark.parametrize(
    ("gpus", "num_cores", "free", "num_nodes", "wanted"),
    [
        (["a"], 16, [80], 40, 4),  # no more than was tried
        (["a"], 4, [80], 40, 2),  # two cores for each
        (["a"], 16, [5], 40, 2),  # what fits
        (["a", "b"], 16, [80, 5], 40, 4),  # the smaller one decides, for they are dealt out in turn
        (["a", "b"], 2, [80, 80], 40, 2),  # at least one each
        (["a"], 16, [0], 40, 1),  # not told
        (["a"], 16, [80], 3, 3),
        (["a"], 16, [80], 0, 1),
    ],
)
def test_workers_share_a_gpu_where_cores_and_memory_allow(
    gpus: list[str], num_cores: int, free: list[float], num_nodes: int, wanted: int, share: Callable[..., int]
) -> None:
    assert share(gpus, num_cores, free, cells(num_nodes)) == wanted


def test_stages_that_wait_for_each_other_count_once(share: Callable[..., int]) -> None:
    large = 65_536  # 140 GB by our reckoning
    first = stage(large)
    size = workers.gpu_bytes(first) / GIB
    second = stage(large, first)
    chain = [first, second, *cells(9)]
    apart = [first, stage(large, seed=1), *cells(9)]
    resumed = [stage(large, second), stage(large, seed=1), *cells(9)]  # the first two are there; a control is not
    for nodes, room, wanted in (
        (chain, size + 7, 4),
        (chain, size + 3, 2),
        (chain, size, 1),
        (apart, size + 7, 1),
        (resumed, size + 7, 1),
        (apart, 2 * size + 5, 4),
    ):
        assert share(["a"], 16, [room], nodes) == wanted


def test_memory_grows_with_weights_batch_and_vocabulary(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    small = str(checkpoint("bert"))
    base, doubled = (workers.gpu_bytes(stage(batch, model=small)) for batch in (100, 200))
    layers, width, vocabulary = 2, 32, json.loads((checkpoint("bert") / "config.json").read_text())["vocab_size"]
    per_token = 45 * layers * width + 12 * 0.15 * vocabulary
    assert doubled - base == pytest.approx(3 * 100 * 64 * per_token, rel=1e-3)
    full = workers.gpu_bytes(stage(100, model=small, precision="fp32"))
    assert full - base == pytest.approx(3 * 100 * 64 * 45 * layers * width, rel=1e-3)
    decoder = workers.gpu_bytes(stage(200, model=str(checkpoint("gpt2")))) - workers.gpu_bytes(
        stage(100, model=str(checkpoint("gpt2")))
    )
    words = json.loads((checkpoint("gpt2") / "config.json").read_text())["vocab_size"]
    assert decoder == pytest.approx(3 * 100 * 64 * (69 * 2 * 32 + 12 * words), rel=1e-3)
    shutil.copytree(small, tmp_path / "other")
    with (tmp_path / "other" / "model.safetensors").open("ab") as file:
        file.truncate(GIB)  # mostly a hole
    assert workers.gpu_bytes(stage(100, model=str(tmp_path / "other"))) > base + 11 * GIB


def test_memory_is_reckoned_for_every_kind_of_node_and_unknown_families(
    checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    sizes = {node.kind: workers.gpu_bytes(node) for node in spec_of(write_stream(tmp_path)).nodes}
    assert set(sizes) == {"base", "stage", "loss", "cell"}
    assert all(workers.PROCESS_BYTES < size < workers.PROCESS_BYTES + GIB for size in sizes.values())
    shutil.copytree(checkpoint("gpt2"), tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"model_type": "odd"}))
    known, odd = (workers.gpu_bytes(stage(100, model=str(path))) for path in (checkpoint("gpt2"), tmp_path / "odd"))
    assert odd > known


@pytest.mark.parametrize(
    ("environment", "has_driver", "build", "wanted"),
    [
        ({}, True, "2.13.0+cu130", "cuda"),
        ({"ACCELERATE_USE_CPU": "1"}, True, "2.13.0+cu130", "cpu"),
        ({"ACCELERATE_TORCH_DEVICE": "xpu:1"}, True, "2.13.0+cu130", "xpu"),
        ({}, True, "2.13.0+cpu", "cpu"),
        ({}, False, "2.13.0", None),  # torch is asked
    ],
)
def test_accelerator_is_what_torch_will_compute_on(
    environment: dict[str, str],
    has_driver: bool,
    build: str,
    wanted: str | None,
    driver: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "version", lambda _: build)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = gpu.accelerator(driver if has_driver else driver / "nothing", others=(driver,))
    assert found == (wanted or device().type)


def test_torch_is_not_asked_where_no_device_could_be(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: pytest.fail("asked"))
    assert gpu.accelerator(driver / "nothing", others=(driver / "none",)) == "cpu"


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


@pytest.fixture
def two_gpus(monkeypatch):
    for name in ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpu, "_gpus_of_driver", lambda _driver: ["0", "GPU-b"])


def environment():
    return {name: os.environ.get(name) for name in ("ACCELERATE_TORCH_DEVICE", "CUDA_VISIBLE_DEVICES")}


@pytest.mark.parametrize(
    ("name", "device", "visible"),
    [("cpu", "cpu", None), ("cuda", "cuda", None), ("cuda:1", "cuda", "GPU-b"), ("cuda:0", "cuda", "0")],
)
def test_a_chosen_device_holds_for_the_block_and_no_longer(name, device, visible, two_gpus):
    with gpu.using_device(name):
        assert environment() == {"ACCELERATE_TORCH_DEVICE": device, "CUDA_VISIBLE_DEVICES": visible}
        assert gpu.accelerator() == device
    assert environment() == {"ACCELERATE_TORCH_DEVICE": None, "CUDA_VISIBLE_DEVICES": None}
    with gpu.using_device(None):
        assert environment()["ACCELERATE_TORCH_DEVICE"] is None


def test_a_chosen_device_outdoes_the_environment(two_gpus, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    with gpu.using_device("cuda"):
        assert gpu.accelerator() == "cuda"
    assert os.environ["ACCELERATE_USE_CPU"] == "1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cuda:2", "there are 2"),
        ("cdua", "did you mean 'cuda'"),
        ("cuda:", "no device"),
        ("cuda:x", "no device"),
        ("cpu:1", "no device"),
        ("", "no device"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name, said, two_gpus):
    with pytest.raises(BadConfig, match=said), gpu.using_device(name):
        pass


def test_a_missing_gpu_and_a_mac_elsewhere_are_refused(monkeypatch):
    monkeypatch.setattr(gpu, "_gpus_of_driver", lambda _driver: [])
    monkeypatch.setattr(gpu.sys, "platform", "linux")
    for name, said in (("cuda", "no NVIDIA GPU"), ("mps", "the GPU of a Mac")):
        with pytest.raises(BadConfig, match=said), gpu.using_device(name):
            pass
