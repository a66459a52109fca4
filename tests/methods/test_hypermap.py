"""Hypermap: identities, closed forms, and what its maps are told, on encoders and decoders, tied and untied."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from method_helpers import LENGTH, RECIPE, build, make_blocks, make_loop, naive, same_state, train, train_stream
from torch.nn import functional as F

from ctbench.backbone import Batch
from ctbench.backbone.loading import load_backbone
from ctbench.data.tasks import encode_task
from ctbench.masking import Masker
from ctbench.mixer import mixer_of
from ctbench.plugins.find import get_method
from ctbench.randomness import make_generator
from ctbench.training.finetune import finetune


@pytest.fixture(scope="module")
def stages(small):
    """The LM and the memory after each of two stages; entry 0 is the built base."""
    return train_stream(get_method("hypermap"), small.base, small.stream, small.blocks, num_steps=20)


@pytest.fixture(scope="module", params=["bert", "llama", "gpt2", "untied"])
def place(request, checkpoint, small, tmp_path_factory):
    """A random checkpoint, encoder or decoder, tied or untied, trained for a stage."""
    base = load_backbone(str(checkpoint("bert" if request.param == "untied" else request.param, 0.0)))
    if request.param == "untied":
        output = base.model.get_output_embeddings()
        output.weight = torch.nn.Parameter(output.weight.detach().clone() * 1.1)
    blocks = make_blocks(small.stream, base, tmp_path_factory.mktemp(request.param))
    method = get_method("hypermap")
    built = build(method, base, small.stream)
    after = copy.deepcopy(built)
    with torch.no_grad():  # as if it had learned
        for up in mixer_of(after).maps.up.values():
            up.copy_(0.02 * torch.randn(up.shape, generator=torch.Generator().manual_seed(1)))
    return method, base, built, after, blocks


def masked(backbone, rows=8):
    """Return a batch of random tokens; the small stream's words are unknown to a random checkpoint."""
    generator = make_generator(0, ["test"], "masks")
    return Masker.of(backbone, 0.3)(generator.integers(5, 90, (rows, LENGTH)), generator)


def test_without_maps_it_is_naive_bit_for_bit(small):
    ours = train_stream(get_method("hypermap", num_maps=0), small.base, small.stream, small.blocks)
    theirs = train_stream(naive(), small.base, small.stream, small.blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True))
    assert not same_state(ours[0][0], ours[2][0])


def test_maps_that_do_not_move_leave_naive(small):
    """With a gain of 0 and no loss but the LM's the maps stay 0, and the LM learns as under naive."""
    method = get_method("hypermap", gain=0.0, agree_weight=0.0, disagree_weight=0.0, keep_weight=0.0)
    ours, _, record = train(method, build(method, small.base, small.stream), small.first)
    theirs, _, _ = train(naive(), build(naive(), small.base, small.stream), small.first)
    for name, weight in theirs.state().items():
        assert torch.equal(ours.state()[name], weight), name
    assert record.losses.keys() == {"loss", "lm"}
    other = dataclasses.replace(method, gain=16.0)
    moving, _, _ = train(other, build(other, small.base, small.stream), small.first)
    assert any(not torch.equal(moving.state()[name], weight) for name, weight in theirs.state().items())


def test_agreement_without_maps_moving_is_the_distillation_of_lwf(small):
    method = get_method("hypermap", gain=0.0, random_fraction=1.0, disagree_weight=0.0, agree_weight=1.0)
    lwf = get_method("lwf", weight=1.0)
    states, losses = [], []
    for each in (method, lwf):
        after, _, record = train(each, build(each, small.base, small.stream), small.first)
        states.append(after.state())
        losses.append(record.losses)
    for name in states[1]:
        torch.testing.assert_close(states[0][name], states[1][name], atol=2e-4, rtol=0)
    assert losses[0]["agree"] == pytest.approx(losses[1]["kd"], rel=1e-2)


def test_starts_as_the_untouched_lm(place):
    _, base, built, after, _ = place
    batch = masked(base)
    with torch.no_grad():
        assert torch.equal(built.eval()(batch).logits, base.eval()(batch).logits)
        assert (after.eval()(batch).logits - after(batch, prompt=None).logits).abs().max() > 1e-4


def test_map_of_one_context_can_be_baked_into_an_ordinary_lm(place):
    """Whoever has the baked embeddings needs no ctbench."""
    _, _, _, after, _ = place
    after = copy.deepcopy(after).eval()
    batch = masked(after)
    mixer = mixer_of(after)
    context = torch.randn(mixer.network.contexts.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        word_map = mixer.of(mixer.network(context))
        wanted = after(batch, prompt=word_map).logits
        words, output = after.model.get_input_embeddings().weight, after.model.get_output_embeddings().weight
        is_tied = words is output
        baked = [word_map.baked(words), word_map.baked(output, leaves=True)]
        assert not is_tied or torch.equal(*baked)
        assert not torch.allclose(wanted, after(batch, prompt=None).logits, atol=1e-4)
        words.copy_(baked[0])
        output.copy_(baked[1])
        torch.testing.assert_close(after(batch, prompt=None).logits, wanted, atol=1e-5, rtol=1e-4)


def test_tied_embeddings_share_their_maps_and_others_have_their_own(place):
    _, base, built, _, _ = place
    is_tied = base.model.get_input_embeddings().weight is base.model.get_output_embeddings().weight
    assert list(mixer_of(built).maps.up) == (["enter"] if is_tied else ["enter", "leave"])


def test_a_decoder_is_told_nothing_about_what_it_predicts(place):
    _, _, _, after, _ = place
    if after.objective == "mlm":
        pytest.skip("an encoder reads its text in both directions")
    batch = masked(after.eval(), rows=3)
    changed = batch.input_ids.clone()
    changed[1, 10:] = changed[2, :6]
    other = dataclasses.replace(batch, input_ids=changed)
    with torch.no_grad():
        one, two = (after(each).logits.view(3, LENGTH - 1, -1) for each in (batch, other))
    torch.testing.assert_close(one[0], two[0])
    torch.testing.assert_close(one[1, :10], two[1, :10])
    assert (one[1, 10:] - two[1, 10:]).abs().max() > 1e-4
    assert (one[2] - two[2]).abs().max() > 1e-6  # what comes later may know of it


@pytest.mark.parametrize("reads", ["running", "single"])
def test_few_labelled_texts_are_enough_to_run_a_cell(place, small, reads):
    _, base, _, _, blocks = place
    method = get_method("hypermap", reads=reads)
    name = small.stream.names[0]
    after, _, record = train(method, build(method, base, small.stream), {name: blocks[name]}, num_steps=2)
    task = encode_task(small.stream, small.stream.domain(name), base.tokenizer, max_length=16)
    few = dataclasses.replace(task.train, ids=task.train.ids[:3], targets=task.train.targets[:3])
    recipe = dataclasses.replace(small.stream.recipe.finetune, epochs=1)
    adapted = method.adapt(after, small.stream, name, 1)
    cell = finetune(adapted, dataclasses.replace(task, train=few), name=name, recipe=recipe, seed=0)
    assert 0.0 <= cell.metrics["accuracy"] <= 1.0
    assert set(record.losses) >= {"lm", "agree", "disagree"}


def test_a_cell_reads_the_running_mean_of_what_it_trained_on(small, stages):
    method, name = get_method("hypermap"), small.stream.names[0]
    backbone = method.adapt(copy.deepcopy(stages[1][0]), small.stream, name, 1).train()
    batches = [Batch(input_ids=torch.from_numpy(small.first[name][torch.arange(k, k + 4).numpy()])) for k in (0, 4)]
    for batch in batches:
        backbone.features(batch)
    contexts = mixer_of(backbone).network.contexts
    vectors, weights = contexts.read(Batch(input_ids=torch.cat([batch.input_ids for batch in batches])))
    mean = vectors.sum((0, 1)) / weights.sum()
    torch.testing.assert_close(contexts.running(), F.normalize(mean, dim=0) * len(mean) ** 0.5)
    backbone.eval()
    before = contexts.total.clone()
    shares = mixer_of(backbone)(backbone, batches[0]).shares
    assert torch.equal(contexts.total, before)  # a test text changes nothing, and is told apart from no other
    assert torch.equal(shares, mixer_of(backbone)(backbone, batches[1]).shares)


def test_loss_terms_are_those_of_the_docstring(small, stages):
    backbone, memory, record = stages[2]
    assert record.losses.keys() == {"loss", "lm", "agree", "disagree", "keep"}
    assert stages[1][2].losses.keys() == {"loss", "lm", "agree", "disagree"}  # no past to keep
    assert [context.shape for context in memory["contexts"]] == [(mixer_of(backbone).network.contexts.width,)] * 2
    assert all(context.square().mean().item() == pytest.approx(1.0) for context in memory["contexts"])
    assert record.forward_tokens == 2 * record.tokens


def test_disagreement_is_the_overlap_of_shares_of_unlike_contexts(small):
    method = get_method("hypermap")
    stage = make_loop(method, build(method, small.base, small.stream), small.first).stage
    stage.start_step(0)
    network = mixer_of(stage.backbone).network
    own = torch.randn(4, network.contexts.width, generator=torch.Generator().manual_seed(0))
    shares = network(own)
    found = network.disagreement(stage, own, shares)
    stage.start_step(0)
    others = network.random_context(stage, own[:5], purpose="other contexts")
    wanted = 0.0
    for row, share in zip(own, shares, strict=True):
        for other in others:
            weight = max(0.0, 1.0 - float(F.cosine_similarity(row, other, dim=0)))
            wanted += weight * float((share @ network(other)).detach()) / (len(own) * len(others))
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-4)
    gradient = torch.autograd.grad(found, network.weigh[2].weight)[0]
    assert gradient.abs().max() > 1e-6  # where the hinge of a cosine of 1 has none


def test_keeping_is_0_under_the_teachers_hypernetwork_and_not_under_another(small, stages):
    method = get_method("hypermap")
    stage = make_loop(method, stages[1][0], small.second, stages[1][1]).stage
    stage.start_step(0)
    network = mixer_of(stage.backbone).network
    assert float(network.keeping(stage).detach()) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        network.weigh[2].weight.mul_(-1.0)
    assert float(network.keeping(stage).detach()) > 1e-3


ABLATIONS = [
    {"num_maps": 1},
    {"places": "in"},
    {"places": "out"},
    {"context": "plain"},
    {"context": "random"},
    {"reads": "single"},
    {"agree_weight": 0.0},
    {"disagree_weight": 0.0},
    {"keep_weight": 0.0},
]


@pytest.mark.parametrize("settings", ABLATIONS, ids=str)
def test_every_ablation_changes_a_number(small, stages, settings):
    ablated = train_stream(get_method("hypermap", **settings), small.base, small.stream, small.blocks, num_steps=20)
    assert ablated[2][2].losses["lm"] != stages[2][2].losses["lm"]
    assert all(value == value for value in ablated[2][2].losses["loss"])


@pytest.mark.parametrize(("trains", "network", "maps"), [("network", 1, 0), ("all", 1, 1), ("none", 0, 0)])
def test_what_trains_in_a_cell(small, stages, trains, network, maps):
    method = get_method("hypermap", cell_trains=trains)
    adapted = method.adapt(copy.deepcopy(stages[2][0]), small.stream, small.stream.names[0], 2)
    mixer = mixer_of(adapted)
    assert all(parameter.requires_grad == bool(network) for parameter in mixer.network.parameters())
    assert all(parameter.requires_grad == bool(maps) for parameter in mixer.maps.parameters())
    assert all(parameter.requires_grad for parameter in adapted.model.parameters())


def test_mixed_text_lies_between_its_parts(stages, small):
    """Of a mixture of two domains the context is the mean of theirs, so no share is out of the range of contexts."""
    contexts = mixer_of(stages[2][0]).network.contexts
    texts = [Batch(input_ids=torch.from_numpy(small.blocks[name][torch.arange(4).numpy()])) for name in small.blocks]
    mixed = Batch(input_ids=torch.cat([text.input_ids for text in texts]))
    totals = [contexts.read(text)[0].sum((0, 1)) for text in texts]
    torch.testing.assert_close(contexts.read(mixed)[0].sum((0, 1)), totals[0] + totals[1], atol=1e-4, rtol=1e-4)


def test_low_rank_costs_what_it_says(small):
    method = get_method("hypermap", num_maps=4, rank=2)
    built = build(method, small.base, small.stream)
    width = small.base.width
    hidden = mixer_of(built).network.contexts.width
    added = sum(p.numel() for p in built.parameters()) - sum(p.numel() for p in small.base.parameters())
    assert added == 4 * 2 * 2 * width + (hidden + 1) * 32 + 33 * 4
    assert RECIPE.length == LENGTH


def test_stage_of_a_batch_of_one(small):
    method = get_method("hypermap")
    recipe = dataclasses.replace(RECIPE, batch=1)
    _, _, record = train(method, build(method, small.base, small.stream), small.first, recipe=recipe, num_steps=2)
    assert all(value == value for value in record.losses["loss"])
