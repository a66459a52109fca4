"""What a resumed stage reports beside its numbers."""

from __future__ import annotations

import copy

import pytest
from method_helpers import make_base, make_blocks, make_loop, make_stream

from ctbench.method import Method
from ctbench.training import pretrain
from ctbench.training.checkpoint import StageCheckpoint
from ctbench.training.hooks import LoopHooks

GIGABYTE = 1 << 30


@pytest.mark.parametrize("later", [2 * GIGABYTE, 8 * GIGABYTE])
def test_peak_memory_is_that_of_the_process_before_the_interruption_if_it_was_larger(tmp_path, monkeypatch, later):
    stream = make_stream(tmp_path)
    base = make_base(stream)
    blocks = {stream.names[0]: make_blocks(stream, base, tmp_path)[stream.names[0]]}
    saved: list[StageCheckpoint] = []
    monkeypatch.setattr(pretrain, "peak_memory_bytes", lambda: 4 * GIGABYTE)
    keep = LoopHooks(save=lambda progress: saved.append(copy.deepcopy(progress)), save_seconds=0)
    whole = make_loop(Method(), base, blocks, num_steps=14).run(keep)
    monkeypatch.setattr(pretrain, "peak_memory_bytes", lambda: later)
    resumed = make_loop(Method(), base, blocks, num_steps=14).run(checkpoint=saved[0])
    assert (whole.peak_memory_bytes, resumed.peak_memory_bytes) == (4 * GIGABYTE, max(4 * GIGABYTE, later))
