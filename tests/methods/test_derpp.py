from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from method_helpers import (
    BATCH,
    LENGTH,
    RECIPE,
    build,
    finished_stage,
    make_blocks,
    make_loop,
    naive,
    same_state,
    train,
    train_stream,
)

from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig
from ctbench.memory import Reservoir, num_bytes
from ctbench.plugins.find import get_method


@pytest.fixture
def world(small):
    return small.stream, small.base, small.blocks


def module_of(method):
    return sys.modules[type(method).__module__]


@pytest.mark.parametrize("family", ["tiny", "roberta", "gpt2"])
def test_stored_outputs_equal_those_at_the_time_of_storing(family, world, checkpoint, tmp_path):
    stream, base, blocks = world
    if family != "tiny":
        base = load_backbone(str(checkpoint(family, 0.1)))
        blocks = make_blocks(stream, base, tmp_path)
    method = get_method("derpp", max_blocks=10)
    first = stream.names[0]
    after, memory, _ = train(method, build(method, base, stream), {first: blocks[first]})
    columns = memory["columns"]
    assert len(Reservoir(memory, capacity=10)) == 10
    batch = module_of(method).unpack(columns)
    with torch.no_grad():
        logits = after.eval()(batch).logits
    stored = columns["logits"].flatten(0, 1)
    assert stored.dtype == torch.float16
    torch.testing.assert_close(stored.float(), logits, atol=1e-6, rtol=2**-10)
    if base.objective == "clm":
        assert torch.equal(columns["targets"], columns["ids"][:, 1:])


def test_pack_and_unpack_are_inverse(world):
    _, base, blocks = world
    batch = finished_stage(base, blocks).sample(5)
    module = module_of(get_method("derpp"))
    again = module.unpack(module.pack(batch, torch.zeros(len(batch.targets), 3)))
    for name in ("input_ids", "positions", "targets"):
        assert torch.equal(getattr(again, name), getattr(batch, name))


def test_share_0_is_naive(world):
    stream, base, blocks = world
    ours = train_stream(get_method("derpp", replay_fraction=0.0), base, stream, blocks)
    theirs = train_stream(naive(), base, stream, blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True))
    assert ours[-1][1].get("columns", {}) == {}


def test_replay_begins_with_the_second_stage_and_takes_places_in_the_batch(world):
    stream, base, blocks = world
    stages = train_stream(get_method("derpp", max_blocks=8), base, stream, blocks)
    theirs = train_stream(naive(), base, stream, blocks)
    assert same_state(stages[1][0], theirs[1][0])
    assert not same_state(stages[2][0], theirs[2][0])
    assert stages[2][2].losses.keys() == {"loss", "lm", "outputs", "replay"}
    # Nothing is passed beside the batches but, at the end, three rows of each that are offered.
    assert stages[2][2].forward_tokens == (6 * BATCH + 3 * 3) * LENGTH


def test_outputs_are_at_distance_0_from_the_lm_that_gave_them(world):
    _, base, blocks = world
    method = get_method("derpp", max_blocks=8)
    after, memory, _ = train(method, base, blocks)
    trainer = make_loop(method, after, blocks, memory)
    terms = method.loss(trainer.stage, trainer.stage.start_step(0))
    assert terms["outputs"] < 1e-6
    terms = method.loss(make_loop(method, base, blocks, memory).stage, trainer.stage.start_step(0))
    assert terms["outputs"] > 1e-4


def test_memory_stays_within_its_bytes(world):
    _, base, blocks = world
    limit = 20_000
    method = get_method("derpp", max_stored_bytes=limit)
    _, memory, _ = train(method, base, blocks)
    rows = len(memory["columns"]["ids"])
    tensors = sum(column.numel() * column.element_size() for column in memory["columns"].values())
    assert 1 <= rows < 24
    assert limit - tensors < tensors // rows
    assert tensors <= limit < num_bytes(memory) + tensors // rows
    with pytest.raises(BadConfig, match="max_stored_bytes of derpp is 100"):
        train(get_method("derpp", max_stored_bytes=100), base, blocks)


def test_one_row_stays_new(world):
    _, base, blocks = world
    method = get_method("derpp", replay_fraction=1.0, max_blocks=8)
    _, memory, _ = train(method, base, blocks)
    _, _, record = train(method, base, blocks, memory, recipe=dataclasses.replace(RECIPE, batch=2))
    assert all(value == value for value in record.losses["lm"])
