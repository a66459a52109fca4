"""What the loops ask of torch's global state."""

from __future__ import annotations

import pytest
import torch
from accelerate import PartialState

from ctbench.errors import BadConfig
from ctbench.machine.device import device, isolated, peak_memory_bytes, reset_peak_memory, seed_torch, sharing_gpu


def test_seed_torch_gives_the_numbers_of_manual_seed() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(5), torch.randperm(9)
    seed_torch(7, torch.device("cpu"))
    assert all(map(torch.equal, wanted, (torch.rand(5), torch.randperm(9))))
    assert torch.initial_seed() == 7


def test_isolated_leaves_generator_and_threads_as_they_were() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with isolated(threads=threads + 1):
        seed_torch(3, torch.device("cpu"))
        assert torch.get_num_threads() == threads + 1
        assert not torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["xpu", "bogus", "meta:x"])
def test_a_device_that_is_not_there_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", name)
    PartialState._reset_state()
    with pytest.raises(BadConfig, match=r"^torch cannot use the device .*; without ACCELERATE_TORCH_DEVICE") as raised:
        device()
    PartialState._reset_state()
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    assert device() == torch.device("cpu")


def test_a_gpu_that_this_process_does_not_use_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_args: object) -> None:
        pytest.fail("a context was made on the GPU")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("reset_peak_memory_stats", "max_memory_allocated", "get_rng_state", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, touched)
    with isolated(threads=1), sharing_gpu(thoroughly=True):
        reset_peak_memory()
        assert peak_memory_bytes() > 0
