"""What the paper's abstract says of the prompts, tested from outside: on what the LM is given, not on how it is made."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from method_helpers import LENGTH, RECIPE, build, make_trainer, naive, same_state, train, train_stream

from ctbench.batch import Batch
from ctbench.plugins import get_method

WIDE = dataclasses.replace(RECIPE, batch=64)


@pytest.fixture(scope="module")
def trained(small):
    """The LM after stage 1."""
    method = get_method("hyperprompt")
    return train(method, build(method, small.base, small.stream), small.first)[0]


def prompts_of(backbone, batch):
    """Return the vectors that stand in front of each text of a batch, one row per text."""
    prompt = backbone.added[backbone.prompter](backbone, batch)
    return prompt.vectors.detach().flatten(1)


def text(small, name, rows):
    return Batch(input_ids=torch.from_numpy(small.blocks[name][torch.as_tensor(rows).numpy()]))


def test_without_a_prompt_and_weights_it_is_naive_bit_for_bit(small):
    method = get_method("hyperprompt", prompt_length=0, agree_weight=0.0, disagree_weight=0.0)
    ours = train_stream(method, small.base, small.stream, small.blocks)
    theirs = train_stream(naive(), small.base, small.stream, small.blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True))


def test_prompt_depends_on_the_text(small, trained):
    first, second = small.stream.names
    one = prompts_of(trained, text(small, first, [0, 1, 2]))
    assert torch.equal(one, prompts_of(trained, text(small, first, [0, 1, 2])))
    again = prompts_of(trained, text(small, first, [2, 0, 1]))
    torch.testing.assert_close(again, one[[2, 0, 1]])  # on its own text and on no other of the batch
    other = prompts_of(trained, text(small, second, [0, 1, 2]))
    rows = torch.cat([one, other])
    distances = torch.pdist(rows)
    assert distances.min() > 1e-5 * rows.norm(dim=1).mean()


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


def given_prompts(small, **settings):
    """Return the prompts in front of real text and the random ones of some updates, one row per text."""
    method = get_method("hyperprompt", **settings)
    trainer = make_trainer(method, build(method, small.base, small.stream), small.first, recipe=WIDE)
    stage, seen = trainer.stage, []
    stage.backbone.register_forward_pre_hook(
        lambda module, args, options: seen.append(options["prompt"].vectors.detach().flatten(1)), with_kwargs=True
    )
    stage.prepare()
    method.begin(stage)
    seen.clear()
    for step in range(4):
        method.loss(stage, stage.start_step(step))
    return torch.cat(seen[0::2]), torch.cat(seen[1::2])


def test_random_prompts_have_the_statistics_of_real_ones(small):
    real, random = given_prompts(small)
    assert (len(real), len(random)) == (4 * 64, 4 * 64 // 2)
    spread, drawn = real.std(0).mean(), random.std(0).mean()
    assert 0.5 < drawn / spread < 2
    assert (real.mean(0) - random.mean(0)).abs().mean() < 0.5 * spread
    assert not torch.equal(real[: len(random)], random)
    real, plain = given_prompts(small, noise="plain")  # what the test would see of noise that is not matched
    assert plain.std(0).mean() > 2 * real.std(0).mean()


def test_without_the_hypernetwork_one_prompt_learns_and_noise_has_its_spread(small):
    real, random = given_prompts(small, use_hypernetwork=False)
    assert torch.equal(real[0], real[-1])  # whatever the text
    assert 0.8 < random.std() / real[0].std() < 1.25
    mixed, _ = given_prompts(small)
    assert 0.8 < mixed[0].std() / real[0].std() < 1.25  # as long as the mixture it stands for
    method = get_method("hyperprompt", use_hypernetwork=False)
    built = build(method, small.base, small.stream)
    assert [name for name, _ in built.added.named_parameters()] == ["hypernetwork.components"]
    assert not same_state(train(method, built, small.first)[0], built)


def test_hypernetwork_can_be_frozen_in_cells(small, trained):
    for trains in (True, False):
        method = get_method("hyperprompt", train_in_cells=trains)
        adapted = method.adapt(copy.deepcopy(trained), small.stream, small.stream.names[0], 1)
        assert all(parameter.requires_grad == trains for parameter in adapted.added.parameters())
        assert all(parameter.requires_grad for parameter in adapted.model.parameters())


def test_both_weights_at_0_leave_one_pass_per_update_and_no_teacher(small):
    method = get_method("hyperprompt", agree_weight=0.0, disagree_weight=0.0)
    _, _, record = train(method, build(method, small.base, small.stream), small.first)
    assert record["losses"].keys() == {"loss", "lm"}
    _, _, control = train(get_method("hyperprompt"), build(method, small.base, small.stream), small.first)
    assert control["losses"].keys() == {"loss", "lm", "agree", "disagree"}
    # Prompts of 4 count as places; two passes over half the rows come on top.
    assert record["forward_tokens"] == record["tokens"] * (LENGTH + 4) / LENGTH
    assert control["forward_tokens"] == 2 * record["forward_tokens"]


@pytest.mark.parametrize("agree_on", ["outputs", "hidden"])
def test_agreement_is_the_distance_from_the_teacher_under_the_same_random_prompt(small, agree_on):
    method = get_method("hyperprompt", agree_on=agree_on, agree_weight=3.0, disagree_weight=0.0, random_fraction=1.0)
    trainer = make_trainer(method, build(method, small.base, small.stream), small.first)
    stage, seen = trainer.stage, []
    stage.prepare()
    method.begin(stage)
    batch = stage.start_step(0)
    # The LM of stage 1 starts as its teacher, so under the same random prompt nothing differs yet.
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


def test_passes_of_the_frozen_reader_count_as_cost(small):
    records = []
    for context in ("embeddings", "hidden"):
        method = get_method("hyperprompt", context=context)
        records.append(train(method, build(method, small.base, small.stream), small.first)[2])
    plain, reading = (record["forward_tokens"] for record in records)
    assert reading >= plain + records[0]["tokens"]
