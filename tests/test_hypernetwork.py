"""The hypernetwork: which contexts it is shown in a stage and in a cell, and what it keeps."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from method_helpers import LENGTH, RECIPE, build, make_base, make_blocks, make_loop, make_stream
from torch.nn import functional as F

from ctbench import Mixer
from ctbench.backbone.batch import Batch
from ctbench.backbone.loading import load_backbone
from ctbench.contexts import distance, expected_words, to_context
from ctbench.hypernetwork import NUM_ASKED, blurred, divergence, past_contexts, scrambled
from ctbench.mixer import mixer_of
from ctbench.plugins.find import get_method
from ctbench.randomness import make_generator


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hypernetwork")
    stream = make_stream(folder)
    base = make_base(stream)
    return stream, base, make_blocks(stream, base, folder)


@pytest.fixture
def stage(small):
    stream, base, blocks = small
    method = get_method("hypermap")
    made = make_loop(method, build(method, base, stream), {stream.names[0]: blocks[stream.names[0]]}).stage
    made.start_step(0)
    return made


def network_of(stage):
    return mixer_of(stage.backbone).network


def test_scrambled_contexts_are_unlike_and_blurred_ones_alike():
    generator = make_generator(0, ["test"], "contexts")
    own = F.normalize(torch.randn(200, 128, generator=torch.Generator().manual_seed(0)), dim=1) * 128**0.5
    away, near = scrambled(own, generator, share=0.2), blurred(own, generator)
    assert float(distance(own, away).mean()) == pytest.approx(0.9, abs=0.05)
    assert float(distance(own, near).max()) < 0.2
    for made in (away, near):
        torch.testing.assert_close(made.square().mean(1), torch.ones(200))


def test_the_first_stage_alone_tells_how_rare_words_are_and_the_weights_keep_it(stage, small):
    network = network_of(stage)
    assert float(network.contexts.weights.max()) == 1.0 == float(network.contexts.weights[20:40].min())
    stage.prepare()
    network.begin(stage)
    learned = network.contexts.weights.clone()
    assert stage.has_teacher  # the base is asked as the LM before the first stage
    stage.prepare()
    asked = [stage.mask(stage.blocks_of(step % stage.num_steps), "asked") for step in range(NUM_ASKED)]
    network.contexts.weigh(expected_words(small[1], asked))
    torch.testing.assert_close(learned, network.contexts.weights)
    assert 0.0 < float(learned[20:40].min()) < 0.5
    stage.memory["contexts"] = [torch.ones(network.contexts.width)]
    stage.blocks_of = None  # no text is read any more
    network.begin(stage)
    assert torch.equal(network.contexts.weights, learned)
    stored = {name for name in stage.backbone.state_dict() if name.endswith("contexts.weights")}
    assert len(stored) == 1


def test_half_of_the_random_contexts_are_past_ones_once_there_are_any(stage):
    network, width = network_of(stage), network_of(stage).contexts.width
    own = F.normalize(torch.randn(400, width, generator=torch.Generator().manual_seed(0)), dim=1) * width**0.5
    past = F.normalize(torch.randn(width, generator=torch.Generator().manual_seed(1)), dim=0) * width**0.5
    assert not len(past_contexts(stage))
    assert float(distance(past, network.random_context(stage, own, purpose="none past")).min()) > 0.3
    stage.memory["contexts"] = [past]
    share = float((distance(past, network.random_context(stage, own, purpose="one past")) < 0.3).float().mean())
    assert 0.4 < share < 0.6


def test_stage_remembers_a_vector_and_forgets_its_texts(stage):
    network = network_of(stage)
    batch = stage.start_step(0)
    network.stage_context(stage, batch)
    wanted = network.contexts.running()
    network.remember(stage)
    torch.testing.assert_close(past_contexts(stage), wanted.unsqueeze(0))
    assert not network.contexts.count


def test_contexts_of_a_stage_lie_near_its_mean(stage):
    network = network_of(stage)
    for step in range(4):
        context = network.stage_context(stage, stage.start_step(step))
    assert context.shape == (4, network.contexts.width)
    assert float(distance(context, network.contexts.running()).max()) < 0.9


def test_decoders_text_is_not_among_those_it_is_told_about(small, checkpoint):
    stream, _, _ = small
    base = load_backbone(str(checkpoint("llama", 0.0)))
    method = get_method("hypermap")
    built = build(method, base, stream)
    network = mixer_of(built).network
    ids = torch.randint(5, 90, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[1] = (changed[1] + 7) % 80 + 5
    network.eval()
    one, two = (network.context_of(Batch(input_ids=each)) for each in (ids, changed))
    assert one.shape == (3, LENGTH, network.contexts.width)
    torch.testing.assert_close(one[0], two[0])
    assert float(distance(one[1], two[1]).max()) > 1e-3


@pytest.mark.parametrize("batch", [1, 2])
def test_decoders_text_is_not_among_those_it_is_told_about_in_a_stage(small, checkpoint, batch, tmp_path):
    stream, _, _ = small
    base = load_backbone(str(checkpoint("llama", 0.0)))
    blocks = make_blocks(stream, base, tmp_path)
    method, recipe = get_method("hypermap"), dataclasses.replace(RECIPE, batch=batch)
    first = {stream.names[0]: blocks[stream.names[0]]}
    stage = make_loop(method, build(method, base, stream), first, recipe=recipe).stage
    drawn = stage.start_step(0)
    network = network_of(stage)
    vectors, weights = network.contexts.read(drawn)
    own = to_context(vectors.sum(1), weights.sum(1))
    context = network.stage_context(stage, drawn)
    assert context.isfinite().all()
    if batch == 1:
        assert not context.any(), "there is no other text"
    assert float(distance(context, own).min()) > 1e-3


def test_divergence_is_0_for_equal_shares_and_the_closed_form_otherwise():
    one, other = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    assert float(divergence(one, one)) == pytest.approx(0.0, abs=1e-7)
    wanted = 0.5 * torch.tensor(0.5 / 0.9).log() + 0.5 * torch.tensor(0.5 / 0.1).log()
    torch.testing.assert_close(divergence(one, other), wanted)


def test_mixers_condition_is_the_methods_business(stage):
    with pytest.raises(NotImplementedError):
        Mixer().of(torch.ones(2))


@pytest.mark.parametrize("reads", ["running", "single"])
def test_the_mean_of_what_a_stage_read_is_remembered(small, reads):
    stream, base, blocks = small
    method = get_method("hypermap", reads=reads)
    stage = make_loop(method, build(method, base, stream), {stream.names[0]: blocks[stream.names[0]]}).stage
    stage.prepare()
    network = network_of(stage)
    network.begin(stage)
    for step in range(2):
        stage.start_step(step)
        network.stage_context(stage, stage.mask(stage.blocks_of(step), "lm"))
    network.remember(stage)
    past = past_contexts(stage)
    assert float(past.square().mean()) == pytest.approx(1.0, rel=1e-5)
    assert float(network.contexts.count) == 0.0
