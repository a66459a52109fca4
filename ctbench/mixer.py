"""A condition that a hypernetwork mixes, and passes under conditions of other texts.

A `Mixer` is a backbone's prompter: it holds the components, prompts or maps of the word embeddings, and the hypernetwork
that shares them out by what a text is about.

Legend: B batch, T tokens, E width of a context, M components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch, Output
from ctbench.contexts import to_context
from ctbench.hypernetwork import Hypernetwork, of_texts, scrambled
from ctbench.masking import first_rows

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ctbench.backbone.wordmap import Condition
    from ctbench.stage import Stage


class Mixer(nn.Module):
    """A prompter whose condition, a prompt or a map of the word embeddings, is mixed by a hypernetwork."""

    network: Hypernetwork

    def of(self, shares: Tensor) -> Condition:
        """Return the condition that shares [..., M] give."""
        raise NotImplementedError

    def forget(self) -> None:
        """Forget the texts read so far: a cell begins with none, whatever its stage has read."""
        self.network.contexts.forget()

    def forward(self, _backbone: Backbone, batch: Batch) -> Condition:
        """Return the condition of some texts outside a stage, see `Hypernetwork.context_of`."""
        return self.of(self.network(self.network.context_of(batch)))

    def told(self, text: Batch) -> Condition:
        """Return the condition of one context, that of all texts of a batch together."""
        total, count = (part.flatten(0, 1).sum(0) for part in self.network.contexts.read(text))
        return self.of(self.network(to_context(total, count)))

    def random(self, batch: Batch, generator: np.random.Generator) -> Condition:
        """Return the condition of a random context, unlike that of the texts and unlike any past one."""
        own = of_texts(self.network.context_of(batch))
        return self.of(self.network(scrambled(own, generator, share=0.0)))


def random_passes(
    stage: Stage, batch: Batch, context: Tensor, *, fraction: float, lm: bool = True
) -> tuple[Output, Output]:
    """Run a share of a stage's texts under random contexts.

    Args:
        stage: whose backbone's prompter is a `Mixer`.
        batch: its texts.
        context: their own contexts [B, E].
        fraction: share of the rows, in [0, 1], one at least.
        lm: whether logits are wanted.

    Returns:
        What the LM in training and, without gradient, its teacher make of them, each with its own hypernetwork.
    """
    some = first_rows(batch, max(1, round(fraction * len(context))))
    mixer, before = mixer_of(stage.backbone), mixer_of(stage.teacher)
    random = mixer.network.random_context(stage, context[: len(some.input_ids)], purpose="random contexts")
    student = stage.backbone(some, prompt=mixer.of(mixer.network(random)), lm=lm)
    with torch.no_grad():
        teacher = stage.teacher(some, prompt=before.of(before.network(random)), lm=lm)
    return student, teacher


def mixer_of(backbone: Backbone) -> Mixer:
    """Return a backbone's prompter, which is a `Mixer`."""
    assert backbone.prompter is not None
    return cast(Mixer, backbone.added[backbone.prompter])


def agreement(student: Output, teacher: Output) -> Tensor:
    """Return the mean KL divergence, in nats, of the student's outputs from the teacher's at the predicted places."""
    assert teacher.logits is not None and student.logits is not None
    wanted, given = (F.log_softmax(logits.float(), dim=-1) for logits in (teacher.logits, student.logits))
    return F.kl_div(given, wanted, log_target=True, reduction="batchmean")
