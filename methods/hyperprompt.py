"""Hyperprompt: prompts from a hypernetwork, with agreement and disagreement.

Jiang, Jiang, Xue, Zhang, Zhou, Lian, Wei: "Towards Anytime Fine-tuning: Continually Pre-trained Language Models with
Hypernetwork Prompts", Findings of EMNLP 2023, arXiv:2310.13024; its code was not released. A hypernetwork s, trained
with the LM, turns what a text is about, its context c(x), into shares of M prompt components: p(c) = gain * sum_m s_m(c)
P_m, so no domain identity is needed when the LM is fine-tuned. Under a random context z (a past one, or random signs)
the LM must agree with its teacher, the LM before this stage, and its shares must disagree with those of the text:

    L = L_lm(x | p(c(x))) + agree_weight * d(teacher(x | p(z)), LM(x | p(z)))
        + disagree_weight * mean s(c(x)) . s(z) (1 - cos(c(x), z)) + keep_weight * KL(s_teacher(z) || s(z)), z past

Differs from the paper, of which only the abstract could be read: what the abstract says is the hypernetwork trained
with the LM, the two losses and what they are for. Our reading is the rest: prompts as keys and values of every layer,
the mixture, d, all weights. What the parts need in order to act is ours: the gain, the sharp softmax, the running mean
of whitened word embeddings as context, past contexts (a vector per stage, no text) replayed into the hypernetwork, and
the disagreement of shares. That of hidden states (disagree_on="hidden", the hinge max(0, cos)) is the paper's word, but
has no gradient where hidden states hardly differ. Ours too: in `bare_fraction` of the updates the random prompt is none, so
that the LM without a prompt stays what it was, and an own prompt differs from none (`make bare`). Prompt and text share
position ids. What a stage teaches is about words, and prompts hold little of it (see hypermap): the disagreement makes
the shares tell domains apart, and changes no score (ablations in docs/results.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench import Backbone, Batch, Hypernetwork, Method, Mixer, Prompt, hyper, key_width
from ctbench.errors import BadConfig
from ctbench.masking import first_rows
from ctbench.mixer import agreement, mixer_of, random_passes

if TYPE_CHECKING:
    from ctbench import Output, Stage, Stream


class Hyperprompt(Method):
    """A hypernetwork makes the prompt from the text; random prompts guard what the LM knew."""

    version: ClassVar[int] = 6
    paper: ClassVar[str] = "arXiv:2310.13024"

    prompt_length: int = hyper(8, low=0, high=256)
    """P, vectors in front of the text; 0 leaves the prompt and all losses but the LM's out."""
    places: str = hyper("keys", choices=("keys", "layers", "input"))
    """What a vector is: a key and a value of each layer's attention, a hidden state of each layer, or one input vector."""
    num_components: int = hyper(16, low=1)
    """M, prompts that the hypernetwork mixes; 1 leaves nothing to choose."""
    bottleneck: int = hyper(32, low=1)
    """Width of the hypernetwork's hidden layer."""
    sharpness: float = hyper(6.0, low=0.0)
    """Factor of the softmax's logits; at 1 the shares stay near uniform, at 15 it learns badly."""
    scale: float = hyper(3.0, low=0.0, tune=(1.0, 3.0))
    """Standard deviation of the components at the start."""
    gain: float = hyper(100.0, low=0.1, high=1000.0, tune=(30.0, 100.0))
    """A component is gain times its parameter, so it moves so many times as far as other weights do."""
    agree_on: str = hyper("outputs", choices=("hidden", "outputs"))
    """What agrees: the hidden states themselves, or what the LM head makes of them where a token is predicted."""
    agree_weight: float = hyper(1.0, low=0.0, tune=(0.3, 1.0, 3.0))
    """Weight of the agreement with the teacher; 0 is the ablation without it."""
    disagree_on: str = hyper("shares", choices=("shares", "hidden"))
    """What disagrees: the hypernetwork's shares, or the hidden states under own and random prompts (a hinge)."""
    disagree_weight: float = hyper(1.0, low=0.0, tune=(0.3, 1.0))
    """Weight of the disagreement; 0 is the ablation without it."""
    keep_weight: float = hyper(1.0, low=0.0)
    """Weight of keeping the shares that past contexts had; 0 lets the hypernetwork forget."""
    random_fraction: float = hyper(0.5, low=0.0, high=1.0)
    """Share of each batch's rows that are run under a random prompt too, in [0, 1], one row at least; costs two passes."""
    bare_fraction: float = hyper(0.6, low=0.0, high=1.0)
    """Share of the updates whose random prompt is none at all, in [0, 1]: what the LM is without a prompt is kept too."""
    context: str = hyper("whitened", choices=("whitened", "plain", "random"))
    """What the hypernetwork reads: whitened word embeddings of the base, plain ones, or a random vector per word."""
    reads: str = hyper("running", choices=("running", "single"))
    """Whose context it is: that of all texts so far, or of each single text."""
    cell_trains: str = hyper("network", choices=("network", "all", "none"))
    """What trains in a cell beside the LM: the hypernetwork, its components too, or neither."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        if self.prompt_length:
            if backbone.objective == "clm" and self.reads == "single":
                raise BadConfig(
                    "a decoder's prompt stands before the text, so it cannot be made from it: reads=running"
                )
            backbone.added["prompts"] = Components(self, backbone)
            backbone.prompter = "prompts"
        return backbone

    def begin(self, stage: Stage) -> None:
        if self.prompt_length:
            mixer_of(stage.backbone).network.begin(stage)

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        if not self.prompt_length:
            return super().loss(stage, batch)
        prompts = mixer_of(stage.backbone)
        context = prompts.network.stage_context(stage, batch)
        shares = prompts.network(context)
        own = stage.backbone(batch, prompt=prompts.of(shares))
        terms = {"lm": own.loss}
        hinges = bool(self.disagree_weight) and self.disagree_on == "hidden"
        if self.agree_weight or hinges:
            lm = bool(self.agree_weight) and self.agree_on == "outputs"
            if stage.generator("bare").random() < self.bare_fraction:
                student, teacher = bare_passes(stage, batch, fraction=self.random_fraction, lm=lm)
            else:
                student, teacher = random_passes(stage, batch, context, fraction=self.random_fraction, lm=lm)
            if self.agree_weight:
                distance = agreement(student, teacher) if lm else F.mse_loss(student.hidden, teacher.hidden)
                terms["agree"] = self.agree_weight * distance
            if hinges:
                terms["disagree"] = self.disagree_weight * hinge(own.hidden[: len(student.hidden)], student.hidden)
        if self.disagree_weight and not hinges and self.num_components > 1:
            terms["disagree"] = self.disagree_weight * prompts.network.disagreement(stage, context, shares)
        if self.keep_weight and self.num_components > 1 and stage.memory:
            terms["keep"] = self.keep_weight * prompts.network.keeping(stage)
        return terms

    def end(self, stage: Stage) -> None:
        if self.prompt_length:
            mixer_of(stage.backbone).network.remember(stage)

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(True)
        if self.prompt_length:
            prompts = mixer_of(backbone)
            prompts.requires_grad_(self.cell_trains == "all")
            prompts.network.requires_grad_(self.cell_trains != "none")
        return backbone


class Components(Mixer):
    """M prompts of P vectors and the hypernetwork that mixes them."""

    def __init__(self, method: Hyperprompt, backbone: Backbone) -> None:
        super().__init__()
        self.gain, self.places = method.gain, method.places
        self.network = Hypernetwork(backbone, method.num_components, like=method, by_place=False)
        width = 2 * key_width(backbone) if method.places == "keys" else backbone.hidden_size
        self.shape: tuple[int, ...] = (backbone.num_layers, method.prompt_length, width)
        if method.places == "input":
            self.shape = (method.prompt_length, backbone.width)
        start = method.scale / method.gain
        self.components = nn.Parameter(start * torch.randn(method.num_components, *self.shape))

    def of(self, shares: Tensor) -> Prompt:
        """Return the prompt that shares [M] or [B, M] give."""
        mixed = self.gain * (shares @ self.components.flatten(1))
        vectors = mixed.view(*shares.shape[:-1], *self.shape)
        return Prompt(vectors, deep=self.places != "input", keys=self.places == "keys")


def bare_passes(stage: Stage, batch: Batch, *, fraction: float, lm: bool) -> tuple[Output, Output]:
    """Run a share of a stage's texts without a prompt; arguments and results are those of `random_passes`."""
    some = first_rows(batch, max(1, round(fraction * len(batch.input_ids))))
    student = stage.backbone(some, prompt=None, lm=lm)
    with torch.no_grad():
        teacher = stage.teacher(some, prompt=None, lm=lm)
    return student, teacher


def hinge(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean of max(0, cosine) of hidden states [B, T, D]."""
    return F.relu(F.cosine_similarity(one.float(), other.float(), dim=-1)).mean()
