"""LwF: agree with the LM of the stage before on the new text.

Li, Hoiem, 2016, arXiv:1606.09282 (learning without forgetting); distillation with a temperature as of Hinton, Vinyals,
Dean 2015, arXiv:1503.02531. Nothing of the past is stored but the LM itself: the LM before the stage, frozen, is the
teacher, and on each batch's predicted places the student must not move far from its distribution over the vocabulary:

    L = L_lm(theta; x) + weight * t^2 * mean over places of KL(softmax(z_teacher / t) | softmax(z / t))

Differs from the paper: it keeps the outputs of old tasks' heads, an LM has one head for all domains; the factor t^2
(Hinton et al.) keeps the gradient's size when t changes; in stage 1 the teacher is the untouched LM, so general
knowledge is guarded too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ctbench import Method, hyper

if TYPE_CHECKING:
    from ctbench import Batch, Stage


class LwF(Method):
    """The LM before the stage teaches on the new text."""

    paper: ClassVar[str] = "arXiv:1606.09282"

    weight: float = hyper(0.3, low=0.0, tune=(0.1, 0.3, 1.0, 3.0, 10.0))
    """Weight of the divergence from the teacher; 0 is naive."""
    temperature: float = hyper(1.0, low=0.1, high=100.0, tune=(1.0, 2.0))
    """Both distributions are flattened by it; 1 leaves them as they are."""

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        if not self.weight:
            return super().loss(stage, batch)
        student = stage.backbone(batch)
        with torch.no_grad():
            teacher = stage.teacher(batch)
        assert student.loss is not None and student.logits is not None and teacher.logits is not None
        divergence = divergence_from(teacher.logits, student.logits, temperature=self.temperature)
        return {"lm": student.loss, "kd": self.weight * divergence}


def divergence_from(teacher: Tensor, student: Tensor, *, temperature: float) -> Tensor:
    """Return t^2 times the mean KL divergence in nats, in float32, of logits [M, V] at temperature t."""
    wanted = F.log_softmax(teacher.float() / temperature, dim=-1)
    given = F.log_softmax(student.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(given, wanted, log_target=True, reduction="batchmean")
