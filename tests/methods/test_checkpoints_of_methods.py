"""Checkpoints inside a stage of every method, on an LM whose maps have biases, which the embedded ones lack."""

from __future__ import annotations

import pytest
import torch
from method_helpers import build, make_blocks, make_loop, same_state

from ctbench.backbone.loading import load_backbone
from ctbench.engine.resume import load_checkpoint, save_checkpoint
from ctbench.engine.tensors import load_tensors, save_tensors
from ctbench.machine.manifest import write_manifest
from ctbench.plugins.find import find_plugins, get_method
from ctbench.training.hooks import LoopHooks

SHORT = {"das": {"importance_blocks": 4}}
NUM_STEPS = 14
"""Checkpoints are written at logged points, of which the tenth update is one."""


@pytest.fixture(scope="module")
def world(small, checkpoint, tmp_path_factory):
    base = load_backbone(str(checkpoint("bert")))
    return small.stream, base, make_blocks(small.stream, base, tmp_path_factory.mktemp("blocks"))


QUICK = ("das", "hypermap")
"""Methods whose memory holds tensors that share theirs, or most of all; the others are tried by `make test-slow`."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in find_plugins("method")]
)
def test_a_stage_of_bert_goes_on_from_a_checkpoint_on_the_disk(name, world, tmp_path):
    stream, base, blocks = world
    method = get_method(name, **SHORT.get(name, {}))
    started = build(method, base, stream)
    first = {stream.names[0]: blocks[stream.names[0]]}
    whole = make_loop(method, started, first, num_steps=NUM_STEPS, general=blocks[stream.names[1]])
    whole.run(LoopHooks(save=lambda progress: save_checkpoint(tmp_path, progress), save_seconds=0))
    saved = load_checkpoint(tmp_path)
    assert saved is not None and 0 < saved.step < NUM_STEPS
    resumed = make_loop(method, started, first, num_steps=NUM_STEPS, general=blocks[stream.names[1]])
    resumed.run(checkpoint=saved)
    assert same_state(whole.stage.backbone, resumed.stage.backbone)


def test_tensors_that_share_memory_or_have_gaps_are_written_apart(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    given = {"whole": whole, "same": whole, "row": whole[1], "turned": whole.T, "wide": torch.ones(2).expand(3, 2)}
    save_tensors(tmp_path, "memory", given)
    write_manifest(tmp_path, {})
    found = load_tensors(tmp_path, "memory")
    assert found.keys() == given.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in given.items())
