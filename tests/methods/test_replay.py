from __future__ import annotations

import pytest
import torch
from method_helpers import BATCH, LENGTH, RECIPE, make_loop, naive, same_state, train, train_stream

from ctbench.data.sources import read_texts
from ctbench.data.tokens import Blocks, pack
from ctbench.errors import BadPlugin
from ctbench.memory import Reservoir
from ctbench.method import Traits
from ctbench.plugins.find import get_method
from ctbench.stage import Stage


def test_share_0_is_naive_bit_for_bit(small):
    ours = train_stream(get_method("replay", replay_fraction=0.0), small.base, small.stream, small.blocks)
    theirs = train_stream(naive(), small.base, small.stream, small.blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True))
    assert ours[-1][1] == {}
    control = train_stream(get_method("replay"), small.base, small.stream, small.blocks)
    assert same_state(control[1][0], theirs[1][0])  # there is nothing to replay in stage 1
    assert not same_state(control[2][0], theirs[2][0])


@pytest.mark.parametrize(("share", "replayed"), [(0.25, 1), (0.5, 2), (1.0, 4)])
def test_replayed_rows_take_the_last_places_of_the_batch(small, share, replayed):
    method = get_method("replay", replay_fraction=share)
    _, memory, _ = train(method, small.base, small.first)
    trainer = make_loop(method, small.base, small.second, memory)
    batch = trainer.stage.start_step(0)
    seen = []
    trainer.stage.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    method.loss(trainer.stage, batch)
    (mixed,) = seen
    assert mixed.input_ids.shape == (BATCH, LENGTH)
    new = BATCH - replayed
    assert torch.equal(mixed.input_ids[:new], batch.input_ids[:new])
    kept = {tuple(row) for row in memory["columns"]["blocks"].tolist()}
    assert all(tuple(row) in kept for row in unmasked(mixed)[new:].tolist())
    assert not any(tuple(row) in kept for row in unmasked(mixed)[:new].tolist())


def unmasked(batch):
    ids = batch.input_ids.flatten().clone()
    ids[batch.positions] = batch.targets
    return ids.view(batch.input_ids.shape)


def test_reservoir_holds_blocks_of_all_past_domains_within_its_limit(small):
    method = get_method("replay", max_blocks=10)
    _, memory, record = train_stream(method, small.base, small.stream, small.blocks)[-1]
    assert memory["seen"] == 2 * 6 * (BATCH - 1)  # one row of four is replayed
    kept = memory["columns"]["blocks"]
    assert len(Reservoir(memory, capacity=10)) == len(kept) == 10
    text = [{tuple(row) for row in blocks[torch.arange(len(blocks)).numpy()].tolist()} for blocks in
            small.blocks.values()]  # fmt: skip
    counts = [sum(tuple(row) in rows for row in kept.tolist()) for rows in text]
    assert sum(counts) == 10
    assert min(counts) >= 2
    assert record.stored_bytes < 10 * LENGTH * 4 + 300
    assert record.forward_tokens == 6 * BATCH * RECIPE.length


@pytest.mark.parametrize("name", ["replay", "derpp"])
def test_what_is_kept_is_what_was_trained_on(small, name, monkeypatch):
    """The text of a stage is longer than what it reads; a method with replay must not see more of it than others do."""
    read = []
    whole = Stage.start_step

    def watched(stage, step):
        batch = whole(stage, step)
        read.extend(tuple(row) for row in stage.blocks.tolist())
        return batch

    monkeypatch.setattr(Stage, "start_step", watched)
    _, memory, _ = train_stream(get_method(name), small.base, small.stream, small.blocks)[-1]
    columns = memory["columns"]
    if name == "replay":
        blocks = columns["blocks"]
    else:
        blocks = columns["ids"].scatter(1, columns["positions"].long(), columns["targets"])
    kept = {tuple(row) for row in blocks.tolist()}
    assert len(kept) > 10
    assert kept <= set(read)
    text = {
        tuple(row) for blocks in small.blocks.values() for row in blocks[torch.arange(len(blocks)).numpy()].tolist()
    }
    assert len(text - set(read)) > 100  # what the check would catch


def test_a_share_too_small_for_a_row_still_replays_one(small):
    states = [
        train_stream(get_method("replay", replay_fraction=fraction), small.base, small.stream, small.blocks)[-1][0]
        for fraction in (0.0, 0.01)
    ]
    assert not same_state(*states)


@pytest.fixture(scope="module")
def general(small, tmp_path_factory):
    texts = read_texts(small.stream, small.stream.general, domain=None)
    file = pack(texts, small.base.tokenizer, tmp_path_factory.mktemp("general") / "general")
    return Blocks(file, LENGTH, cls_id=small.base.tokenizer.cls_token_id)


def test_general_text_takes_the_last_places_from_the_first_stage_on(small, general):
    method = get_method("replay", source="general", replay_fraction=0.5)
    trainer = make_loop(method, small.base, small.first, general=general)
    batch = trainer.stage.start_step(0)
    seen = []
    trainer.stage.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    method.loss(trainer.stage, batch)
    (mixed,) = seen
    rows = {tuple(row) for row in general[torch.arange(len(general)).numpy()].tolist()}
    is_general = [tuple(row) in rows for row in unmasked(mixed).tolist()]
    assert is_general == [False, False, True, True]
    assert torch.equal(mixed.input_ids[:2], batch.input_ids[:2])


def test_general_replay_of_share_0_is_naive_bit_for_bit_and_nothing_is_ever_stored(small, general):
    for share, is_naive in ((0.0, True), (0.25, False)):
        method = get_method("replay", source="general", replay_fraction=share)
        backbone, memory, record = train(method, small.base, small.first, general=general)
        assert same_state(backbone, train(naive(), small.base, small.first)[0]) == is_naive
        assert memory == {}
        assert record.stored_bytes == 0
        assert record.forward_tokens == 6 * BATCH * RECIPE.length


def test_general_replay_draws_other_rows_in_every_update_and_stage(small, general):
    drawn = []
    for blocks in (small.first, small.second):
        stage = make_loop(get_method("replay", source="general"), small.base, blocks, general=general).stage
        for step in (0, 1):
            stage.start_step(step)
            drawn.append(stage.general(8).tolist())
    assert all(one != other for i, one in enumerate(drawn) for other in drawn[:i])


def test_replay_says_what_it_reads():
    assert get_method("replay").configured_traits == Traits(stores_text=True)
    assert get_method("replay", source="general").configured_traits == Traits(reads_general_text=True)


def test_general_text_is_for_methods_that_declare_it(small):
    stage = make_loop(naive(), small.base, small.first).stage
    with pytest.raises(BadPlugin, match="reads_general_text=True"):
        stage.general(1)
