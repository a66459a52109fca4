"""What the paper's abstract says of the prompts, tested from outside: on what the LM is given, not on how it is made."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from method_helpers import LENGTH, RECIPE, build, make_loop, naive, same_state, slow, train, train_stream

from ctbench.backbone.batch import Batch
from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig
from ctbench.hypernetwork import NUM_ASKED
from ctbench.mixer import mixer_of
from ctbench.plugins.find import get_method


@pytest.fixture(scope="module")
def stages(small):
    """The LM and the memory after each of two stages; entry 0 is the built base."""
    return train_stream(get_method("hyperprompt"), small.base, small.stream, small.blocks, num_steps=20)


def prompts_of(backbone, batch):
    """Return the vectors that stand in front of each text of a batch, one row per text or one for all."""
    prompt = backbone.added[backbone.prompter](backbone, batch)
    return prompt.vectors.detach().flatten(-3)


def text(small, name, rows):
    return Batch(input_ids=torch.from_numpy(small.blocks[name][torch.as_tensor(rows).numpy()]))


def test_without_a_prompt_it_is_naive_bit_for_bit(small):
    method = get_method("hyperprompt", prompt_length=0)
    ours = train_stream(method, small.base, small.stream, small.blocks)
    theirs = train_stream(naive(), small.base, small.stream, small.blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True))


def test_prompt_depends_on_the_text(small):
    first, second = small.stream.names
    method = get_method("hyperprompt", reads="single")
    trained, _, _ = train(method, build(method, small.base, small.stream), small.first)
    one = prompts_of(trained, text(small, first, [0, 1, 2]))
    assert torch.equal(one, prompts_of(trained, text(small, first, [0, 1, 2])))
    again = prompts_of(trained, text(small, first, [2, 0, 1]))
    torch.testing.assert_close(again, one[[2, 0, 1]])  # on its own text and on no other of the batch
    rows = torch.cat([one, prompts_of(trained, text(small, second, [0, 1, 2]))])
    assert torch.pdist(rows).min() > 1e-5 * rows.norm(dim=1).mean()


def test_running_prompt_is_that_of_all_texts(small, stages):
    first, second = small.stream.names
    backbone = copy.deepcopy(stages[2][0])
    one, other = (prompts_of(backbone, text(small, name, range(8))) for name in (first, second))
    assert one.dim() == 1
    assert (one - other).norm() > 1e-3 * one.norm()


def test_prompt_does_not_depend_on_the_domains_name(small):
    """Renamed domains change neither the LM in training nor, with it, any prompt."""
    method = get_method("hyperprompt")
    stream = small.stream
    renamed = dataclasses.replace(
        stream, domains=tuple(dataclasses.replace(domain, name=f"other-{domain.name}") for domain in stream.domains)
    )
    assert same_state(build(method, small.base, stream), build(method, small.base, renamed))
    batch = text(small, stream.names[0], [0, 1])
    shown = [
        prompts_of(method.adapt(build(method, small.base, each), each, name, number), batch)
        for each in (stream, renamed)
        for number, name in enumerate(each.names, start=1)
    ]
    assert all(torch.equal(shown[0], other) for other in shown)


def test_decoders_prompt_is_made_from_the_texts_before(small, checkpoint):
    base = load_backbone(str(checkpoint("llama", 0.0)))
    method = get_method("hyperprompt")
    built = build(method, base, small.stream).eval()
    ids = torch.randint(5, 90, (4, LENGTH), generator=torch.Generator().manual_seed(0))
    one = prompts_of(built, Batch(input_ids=ids))
    changed = ids.clone()
    changed[2] = changed[2].flip(0) + 1
    other = prompts_of(built, Batch(input_ids=changed))
    torch.testing.assert_close(one[:3], other[:3])
    assert not torch.allclose(one[3], other[3], atol=1e-6)
    with pytest.raises(BadConfig, match="a decoder's prompt stands before the text"):
        build(get_method("hyperprompt", reads="single"), base, small.stream)


def test_loss_terms_and_their_cost(small, stages):
    method = get_method("hyperprompt")
    assert stages[2][2].losses.keys() == {"loss", "lm", "agree", "disagree", "keep"}
    assert stages[1][2].losses.keys() == {"loss", "lm", "agree", "disagree"}
    # Prompt places count; two passes over half of the rows come on top, in some updates without a prompt. Before its first
    # stage the base is asked which words it expects, without a prompt.
    prompted = (LENGTH + method.prompt_length) / LENGTH
    record = stages[2][2]
    assert record.tokens * (prompted + 1) < record.forward_tokens < record.tokens * 2 * prompted
    for share, places in ((0.0, prompted), (1.0, 1.0)):
        one = get_method("hyperprompt", bare_fraction=share)
        _, _, record = train(one, build(one, small.base, small.stream), small.first)
        assert record.forward_tokens == record.tokens * (prompted + places) + NUM_ASKED * RECIPE.batch * LENGTH
    bare = get_method("hyperprompt", agree_weight=0.0, disagree_weight=0.0, keep_weight=0.0)
    _, _, record = train(bare, build(bare, small.base, small.stream), small.first)
    assert record.losses.keys() == {"loss", "lm"}
    assert record.forward_tokens == record.tokens * prompted + NUM_ASKED * RECIPE.batch * LENGTH


@pytest.mark.parametrize("bare_fraction", [0.0, 1.0])
@pytest.mark.parametrize("agree_on", ["outputs", "hidden"])
def test_agreement_is_the_distance_from_the_teacher_under_the_same_prompt_or_none(small, agree_on, bare_fraction):
    settings = {"agree_on": agree_on, "agree_weight": 3.0, "random_fraction": 1.0, "bare_fraction": bare_fraction}
    method = get_method("hyperprompt", **settings)
    trainer = make_loop(method, build(method, small.base, small.stream), small.first)
    stage, seen = trainer.stage, []
    stage.prepare()
    method.begin(stage)
    batch = stage.start_step(0)
    # The LM of stage 1 starts as its teacher, so under the same prompt nothing differs yet.
    assert method.loss(stage, batch)["agree"] < 1e-6
    with torch.no_grad():
        for parameter in stage.backbone.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.02)
    for module in (stage.backbone, stage.teacher):
        module.register_forward_hook(lambda module, args, output: seen.append(output))
    agreed = method.loss(stage, batch)["agree"]
    _, student, teacher = seen
    if agree_on == "hidden":
        wanted = (student.hidden - teacher.hidden).square().mean()
    else:
        given = torch.distributions.Categorical(logits=student.logits.float())
        target = torch.distributions.Categorical(logits=teacher.logits.float())
        assert len(student.logits) == len(batch.positions)
        wanted = torch.distributions.kl_divergence(target, given).mean()
    torch.testing.assert_close(agreed, 3.0 * wanted)
    assert agreed > 1e-4


ABLATIONS = [
    {"bare_fraction": 0.0},
    {"num_components": 1},
    {"places": "layers"},
    {"places": "input"},
    {"context": "plain"},
    {"context": "random"},
    {"reads": "single"},
    {"agree_on": "hidden"},
    {"agree_weight": 0.0},
    {"disagree_on": "hidden"},
    {"disagree_weight": 0.0},
    {"keep_weight": 0.0},
]


@pytest.mark.parametrize("settings", [*ABLATIONS[:2], *slow(*ABLATIONS[2:])], ids=str)
def test_every_ablation_changes_a_number(small, stages, settings):
    ablated = train_stream(get_method("hyperprompt", **settings), small.base, small.stream, small.blocks, num_steps=20)
    assert ablated[2][2].losses["lm"] != stages[2][2].losses["lm"]
    assert all(value == value for value in ablated[2][2].losses["loss"])


@pytest.mark.parametrize(("trains", "network", "components"), [("network", 1, 0), ("all", 1, 1), ("none", 0, 0)])
def test_what_trains_in_a_cell(small, stages, trains, network, components):
    method = get_method("hyperprompt", cell_trains=trains)
    adapted = method.adapt(copy.deepcopy(stages[2][0]), small.stream, small.stream.names[0], 2)
    mixer = mixer_of(adapted)
    assert all(parameter.requires_grad == bool(network) for parameter in mixer.network.parameters())
    assert mixer.components.requires_grad == bool(components)
    assert all(parameter.requires_grad for parameter in adapted.model.parameters())
