"""A hypernetwork that shares components out by what a text is about, and what keeps its choices apart and in memory.

What is mixed by the shares (prompts, maps of the word embeddings) is the business of a `Mixer`. Here are the contexts
that the hypernetwork reads in a stage and in a cell, the random contexts that it is shown beside them, and two losses on
its shares.

Legend: B batch, T tokens, E width of a context, M components, K past stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.batch import move
from ctbench.contexts import Contexts, distance, expected_words, to_context, unit

if TYPE_CHECKING:
    import numpy.typing as npt

    from ctbench.stage import Stage

NUM_TEXTS = 16
"""Texts whose mean is the least certain context that is shown in a stage."""
NUM_ASKED = 16
"""Updates of the first stage on whose text the base is asked which words it expects."""
NUM_OTHERS = 5
"""Random contexts that the own shares are compared with."""
SHARED = 0.2
"""A random context has up to this share of the own one."""
BLURRED = 0.3
"""A past context is shown with up to this share of a random one."""


class Settings(Protocol):
    """What a hypernetwork is told by its method."""

    @property
    def bottleneck(self) -> int:
        """Width of the hidden layer."""

    @property
    def sharpness(self) -> float:
        """Factor of the logits; at 1 the softmax stays near uniform in a stage of a few hundred updates."""

    @property
    def context(self) -> str:
        """Kind of context, see `Contexts`."""

    @property
    def reads(self) -> str:
        """Contexts are "running" means of all texts so far, or those of each "single" text."""


class Hypernetwork(nn.Module):
    """Turns contexts into shares of M components: E -> bottleneck -> tanh -> M -> softmax.

    A decoder is told nothing about the tokens it predicts, but for the answers that a cell trains it on, which have entered
    the running mean. With running contexts a text of a stage is told about others, a later one about those before it; a
    condition that may differ from place to place (`by_place`) about the tokens up to the place, too.

    Args:
        backbone: the untouched base.
        num_components: M.
        like: the settings.
        by_place: whether a decoder's contexts may differ from place to place.
    """

    def __init__(self, backbone: Backbone, num_components: int, *, like: Settings, by_place: bool = True) -> None:
        super().__init__()
        self.contexts = Contexts(backbone, kind=like.context)
        self.is_causal = backbone.objective == "clm"
        self.is_running = like.reads == "running"
        self.by_place = by_place
        self.sharpness = like.sharpness
        layers = nn.Linear(self.contexts.width, like.bottleneck), nn.Tanh(), nn.Linear(like.bottleneck, num_components)
        self.weigh = nn.Sequential(*layers)

    def forward(self, context: Tensor) -> Tensor:
        """Return the shares [..., M] of contexts [..., E]."""
        shares: Tensor = F.softmax(self.sharpness * self.weigh(context).float(), dim=-1)
        return shares

    # What it reads

    @torch.no_grad()
    def context_of(self, batch: Batch) -> Tensor:
        """Return the context outside a stage: [E] for all texts, [B, E] for each text, or [B, T, E] for each place.

        With running contexts it is the mean of all text seen in training since `Contexts.forget`, the batch included;
        before any, the mean of the batch, or for a decoder of what stands before.
        """
        if self.is_running and self.training:
            self.contexts.observe(batch)
        if self.is_running and self.contexts.count > 0:
            return self.contexts.running()
        vectors, weights = self.contexts.read(batch)
        if self.is_causal:
            return self._from_the_left(vectors, weights)
        if self.is_running:
            return to_context(vectors.sum((0, 1)), weights.sum())
        return to_context(vectors.sum(1), weights.sum(1))

    def _from_the_left(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """Return contexts [B, T, E] of places or [B, E] of texts, from sums [B, T, E] and their weights [B, T, 1]."""
        if not self.by_place:
            total, count = vectors.sum(1), weights.sum(1)
            return to_context(total.cumsum(0) - total, count.cumsum(0) - count)
        if not self.is_running:
            return to_context(vectors.cumsum(1), weights.cumsum(1))
        total, count = vectors.flatten(0, 1).cumsum(0), weights.flatten(0, 1).cumsum(0)
        return to_context(total, count).view(vectors.shape)

    def begin(self, stage: Stage) -> None:
        """Begin a stage: before the first one the base tells how rare words are, see `Contexts`."""
        self.contexts.forget()
        if not len(past_contexts(stage)):
            steps = (step % stage.num_steps for step in range(NUM_ASKED))  # in a short stage as many: it may be a price
            batches = (stage.mask(stage.blocks_of(step), "asked") for step in steps)
            self.contexts.weigh(expected_words(stage.teacher, batches))

    @torch.no_grad()
    def stage_context(self, stage: Stage, batch: Batch) -> Tensor:
        """Return a context [B, E] for each text of a stage, [B, T, E] for each place of a decoder's single texts.

        Running contexts lie between the stage's mean, which the batch then enters, and that of `NUM_TEXTS` texts of the
        batch, so that the contexts of cells look familiar. A decoder's text is not among those that it is told about.
        """
        vectors, weights = self.contexts.read(batch)
        total, count = vectors.sum(1), weights.sum(1)
        if not self.is_running:
            self.contexts.observe(batch)  # to be remembered
            return self._from_the_left(vectors, weights) if self.is_causal else to_context(total, count)
        generator, size = stage.generator("contexts"), len(total)
        keys = generator.random((size, size), dtype=np.float32) + self.is_causal * np.eye(size, dtype=np.float32)
        num_texts = min(NUM_TEXTS, size - self.is_causal)  # a decoder's only text has none beside it
        chosen = np.argsort(keys, axis=1)[:, :num_texts]
        groups = _moved(np.eye(size, dtype=np.float32)[chosen].sum(1), stage.device)
        with torch.autocast(stage.device.type, enabled=False):  # contexts stay in float32
            few = to_context(groups @ total, groups @ count)
        share = _moved(generator.random((size, 1), dtype=np.float32), stage.device)
        if self.contexts.count > 0:
            few = unit(torch.lerp(self.contexts.running().expand_as(few), few, share))
        self.contexts.observe(batch)
        return few

    @torch.no_grad()
    def random_context(self, stage: Stage, own: Tensor, *, purpose: str) -> Tensor:
        """Return a context [n, E] for each own one, unlike it or, half of the time, that of a past stage once there is any.

        Both kinds are shown with a little of another direction.

        Args:
            stage: whose generator is used.
            own: [n, E] of texts, or [n, T, E] of places.
            purpose: what they are for.
        """
        own = of_texts(own)
        generator, past = stage.generator(purpose), past_contexts(stage)
        random = scrambled(own, generator, share=SHARED)
        if len(past):
            rows = generator.integers(0, len(past), len(own))
            is_past = _moved(generator.random((len(own), 1)) < 0.5, own.device)
            random = torch.where(is_past, blurred(past[_moved(rows, own.device)], generator), random)
        return random

    def remember(self, stage: Stage) -> None:
        """Keep the stage's mean context among the past ones: a vector, no text."""
        stage.memory.setdefault("contexts", []).append(self.contexts.running().cpu())
        self.contexts.forget()

    # Losses on its shares

    def keeping(self, stage: Stage) -> Tensor:
        """Return the mean KL divergence, in nats, of its shares from those of its teacher on past contexts."""
        past = past_contexts(stage)
        generator = stage.generator("kept contexts")
        context = blurred(past.repeat(-(-NUM_TEXTS // len(past)), 1), generator)
        with torch.no_grad():
            wanted = network_of(stage.teacher)(context)
        return divergence(wanted, self(context)).mean()

    def disagreement(self, stage: Stage, context: Tensor, shares: Tensor) -> Tensor:
        """Return the mean overlap, in [0, 2], of the shares [B, ..., M] on contexts [B, ..., E] with those on random ones.

        A pair counts by 1 - the cosine of its contexts, so alike contexts may have alike shares. Unlike the hinge of a
        cosine, which is 1 between hidden states that hardly differ, it has a gradient from the start.
        """
        others = self.random_context(stage, context[:NUM_OTHERS], purpose="other contexts")
        overlap: Tensor = shares @ self(others).T
        return (overlap * distance(context.unsqueeze(-2), others)).mean()


def network_of(backbone: Backbone) -> Hypernetwork:
    """Return the hypernetwork of a backbone's prompter, which is a `Mixer`."""
    assert backbone.prompter is not None
    return cast(Hypernetwork, backbone.added[backbone.prompter].network)


def scrambled(context: Tensor, generator: np.random.Generator, *, share: float) -> Tensor:
    """Return contexts [..., E] with random signs, which hold up to `share` of the ones given."""
    signs = _signs(generator, context)
    shares = _moved(generator.random((*context.shape[:-1], 1), dtype=np.float32), context.device)
    return unit(torch.lerp(context * signs, context, share * shares))


def blurred(context: Tensor, generator: np.random.Generator) -> Tensor:
    """Return contexts [n, E] with up to `BLURRED` of a random direction."""
    signs = _signs(generator, context)
    shares = _moved(generator.random((len(context), 1), dtype=np.float32), context.device)
    return unit(torch.lerp(context, context * signs, BLURRED * shares))


def of_texts(context: Tensor) -> Tensor:
    """Return contexts of texts [B, E]: of those of places [B, T, E] the last ones."""
    return context[:, -1] if context.dim() == 3 else context


def past_contexts(stage: Stage) -> Tensor:
    """Return the mean contexts [K, E] of the stages before this one."""
    kept: list[Tensor] = stage.memory.get("contexts", [])
    return move(torch.stack(kept), stage.device) if kept else torch.empty(0)


def divergence(wanted: Tensor, given: Tensor) -> Tensor:
    """Return the KL divergence [...] in nats of shares `given` [..., M] from `wanted`."""
    wanted, given = (shares.clamp(min=1e-9).log() for shares in (wanted, given))
    return F.kl_div(given, wanted, log_target=True, reduction="none").sum(-1)


def _signs(generator: np.random.Generator, like: Tensor) -> Tensor:
    signs = 2.0 * generator.integers(0, 2, tuple(like.shape)).astype(np.float32) - 1.0
    return _moved(signs, like.device)


def _moved(values: npt.NDArray[Any], where: torch.device) -> Tensor:
    return move(torch.from_numpy(values), where)
