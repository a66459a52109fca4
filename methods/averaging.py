"""Averaging: go only part of the way from the old weights to the new ones.

Wortsman et al. 2021, arXiv:2109.01903 (WiSE-FT); Xiao, Liu, Zhang, Xing 2023, arXiv:2311.13534 (LM-Cocktail). A stage
is trained as the naive method trains it. At its end the weights are interpolated between the LM before the stage and
the LM after it, which often keeps most of what both know:

    theta <- (1 - a) theta_before + a theta_after,   a = after_fraction

Differs from the papers: they merge a fine-tuned model with its origin, once, or with further models; here it happens at
the end of every stage, with the LM before that stage, and the next one starts from the average; a is the same for all
weights and stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from ctbench import Method, hyper

if TYPE_CHECKING:
    from ctbench import Stage


class Averaging(Method):
    """Old and new weights are averaged at the end of a stage."""

    paper: ClassVar[str] = "arXiv:2109.01903"

    after_fraction: float = hyper(0.8, low=0.0, high=1.0, tune=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
    """Share of the weights after the stage, in [0, 1]; 0 learns nothing, 1 is naive."""

    def end(self, stage: Stage) -> None:
        if self.after_fraction == 1.0:
            return
        before = dict(stage.teacher.named_parameters())
        with torch.no_grad():
            for name, parameter in stage.backbone.trainable():
                parameter.copy_(torch.lerp(before[name], parameter, self.after_fraction))
