"""For every law methods that break it and nothing else, as a stranger might write them."""

from __future__ import annotations

import random

import torch
from torch import nn

from ctbench import Method, Plan, Traits, one_per_domain


class CountsOutsideTheMemory(Method):
    """A resumed stage counts from 0 again."""

    def loss(self, stage, batch):
        backbone = stage.backbone
        backbone.count = getattr(backbone, "count", 0) + 1
        return {"lm": backbone(batch).loss * (1 + 0.1 * backbone.count)}


class DrawsFromThePythonGenerator(Method):
    def loss(self, stage, batch):
        return {"lm": stage.backbone(batch).loss * (1 + random.random())}


class BuildsFromTheClock(Method):
    def build(self, backbone, stream):
        backbone.added["extra"] = nn.Linear(2, 2)
        nn.init.uniform_(backbone.added["extra"].weight, b=random.random())
        return backbone


class TrainsBeforeTheStage(Method):
    def begin(self, stage):
        optimizer = torch.optim.SGD([weights for _, weights in stage.backbone.trainable()], lr=0.1)
        stage.backbone(stage.sample(4)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


class UpdatesTwice(Method):
    def after_step(self, stage):
        weights = [weights for _, weights in stage.backbone.trainable()]
        loss = stage.backbone(stage.sample(4)).loss
        for parameter, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            parameter.grad = gradient
        torch.optim.SGD(weights, lr=0.1).step()
        stage.backbone.zero_grad()


class EditsWeightsInTheLoss(Method):
    def loss(self, stage, batch):
        with torch.no_grad():
            stage.backbone.trainable()[0][1].mul_(0.99)
        return {"lm": stage.backbone(batch).loss}


class MovesWhatIsFrozen(Method):
    def build(self, backbone, stream):
        backbone.model.get_input_embeddings().requires_grad_(False)
        return backbone

    def after_step(self, stage):
        with torch.no_grad():
            stage.backbone.model.get_input_embeddings().weight.mul_(0.99)


class TrainsByTask(Method):
    def adapt(self, backbone, stream, task, stage):
        backbone.requires_grad_(True)
        if task == stream.names[0]:
            backbone.model.get_input_embeddings().requires_grad_(False)
        return backbone


class WeighsByStage(Method):
    def adapt(self, backbone, stream, task, stage):
        with torch.no_grad():
            backbone.model.get_input_embeddings().weight.mul_(stage)
        return backbone.requires_grad_(True)


class HearsTheTask(Method):
    """The state is the same, what a classifier reads is not."""

    def adapt(self, backbone, stream, task, stage):
        if task == stream.names[0]:
            words = backbone.model.get_input_embeddings()
            words.register_forward_hook(lambda module, args, output: output.flip(-1))
        return backbone.requires_grad_(True)


class PicksTheLMOfTheTask(Method):
    traits = Traits(grows=True)

    def plan(self, stream):
        return one_per_domain(stream.names)


class GrowsInSilence(Method):
    def build(self, backbone, stream):
        backbone.added["extra"] = nn.Linear(2, 2 * len(stream.names))
        return backbone


class KeepsOneLMPerDomainInSilence(Method):
    traits = Traits(needs_domain=True)

    def plan(self, stream):
        return one_per_domain(stream.names)


class HidesBehindWhatItRemoves(Method):
    """As many parameters as before, but not the same."""

    def build(self, backbone, stream):
        name, old = backbone.parts("ffn_out")[0]
        backbone.added["mine"] = nn.ParameterList([nn.Parameter(torch.zeros_like(old.weight))])
        backbone.replace(name, _Borrowed(backbone.added["mine"]))
        return backbone


class _Borrowed(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = [weights]

    def forward(self, x):
        return x @ self.weights[0][0].T


class KeepsRows(Method):
    def end(self, stage):
        stage.memory["old"] = stage.text(4)


class KeepsRowsInABuffer(Method):
    def build(self, backbone, stream):
        backbone.added["old"] = nn.Module()
        backbone.added["old"].register_buffer("rows", torch.zeros(2, 16, dtype=torch.long))
        return backbone

    def end(self, stage):
        stage.backbone.added["old"].rows.copy_(stage.text(2))


class TrainsOnAllAtOnce(Method):
    def plan(self, stream):
        count = len(stream.names)
        rows = ((0,) * count, *((None,) * count for _ in range(count - 1)), (1,) * count)
        return Plan(stages=(stream.names,), parents=(0,), cells=rows)


class KeepsASet(Method):
    def end(self, stage):
        stage.memory["seen"] = {"a", "b"}


class KeepsATuple(Method):
    def end(self, stage):
        stage.memory["sizes"] = (1, 2)


class StartsAsNaiveAndTrainsOtherwise(Method):
    starts_as = "naive"

    def loss(self, stage, batch):
        return {"lm": 1.01 * stage.backbone(batch).loss}


class StartsAsNaiveAndNamesTermsOtherwise(Method):
    """The weights are the same."""

    starts_as = "naive"

    def loss(self, stage, batch):
        return {"mine": stage.backbone(batch).loss}


class StartsAsNaiveAndCountsItsUpdates(Method):
    starts_as = "naive"

    def after_step(self, stage):
        stage.memory["updates"] = stage.memory.get("updates", 0) + 1


class StartsAsNaiveAndEditsWeightsAtTheEnd(Method):
    starts_as = "naive"

    def end(self, stage):
        with torch.no_grad():
            stage.backbone.trainable()[0][1].mul_(0.99)


class StartsAsNaiveAndNotesItsUpdates(Method):
    starts_as = "naive"

    def after_step(self, stage):
        stage.note(last=stage.step)


class StartsAsNaiveWithPartsOfItsOwn(Method):
    starts_as = "naive"

    def build(self, backbone, stream):
        return backbone.requires_grad_(True)


class StartsAsNobody(Method):
    starts_as = "nobody at all"


BREAKS = {
    "resume": (CountsOutsideTheMemory,),
    "determinism": (DrawsFromThePythonGenerator, BuildsFromTheClock),
    "budget": (TrainsBeforeTheStage, UpdatesTwice, EditsWeightsInTheLoss),
    "frozen": (MovesWhatIsFrozen,),
    "honesty": (TrainsByTask, WeighsByStage, HearsTheTask, PicksTheLMOfTheTask),
    "size": (GrowsInSilence, KeepsOneLMPerDomainInSilence, HidesBehindWhatItRemoves),
    "text": (KeepsRows, KeepsRowsInABuffer, TrainsOnAllAtOnce),
    "plain memory": (KeepsASet, KeepsATuple),
    "start": (
        StartsAsNaiveAndTrainsOtherwise,
        StartsAsNaiveAndNamesTermsOtherwise,
        StartsAsNaiveAndCountsItsUpdates,
        StartsAsNaiveAndEditsWeightsAtTheEnd,
        StartsAsNaiveAndNotesItsUpdates,
        StartsAsNaiveWithPartsOfItsOwn,
        StartsAsNobody,
    ),
}
