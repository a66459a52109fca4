"""Hyperprompt: prompts from a hypernetwork, with agreement and disagreement.

Jiang, Jiang, Xue, Zhang, Zhou, Lian, Wei: "Towards Anytime Fine-tuning: Continually Pre-trained Language Models with
Hypernetwork Prompts", Findings of EMNLP 2023, arXiv:2310.13024; its code was not released. A hypernetwork, trained with
the LM, turns the text itself into a prompt, so no domain identity is needed when the LM is fine-tuned. Under a random
prompt z the LM must agree with its teacher, the LM before this stage; under the text's own prompt h(x) its hidden
states must disagree with those under z:

    L = L_lm(x, h(x)) + agree_weight * d(LM(x, z), teacher(x, z)) + disagree_weight * max(0, cos(H(x, h(x)), H(x, z)))

Differs from the paper, of which only the abstract could be read: what the abstract says is the hypernetwork trained
with the LM, the two losses and what they are for. Our reading is the rest: h = frozen context of the text ->
normalisation -> bottleneck -> softmax over M components -> P vectors, at the input or in every layer; the mean and
variance that normalise are those of the first stage's text, for good, so that another domain looks different; d, the KL
divergence of what the LM head makes of the hidden states H, or (agree_on="hidden") their mean squared error; the hinge
of the cosine; z from the hypernetwork on a random context with the mean and variance of all real ones so far, without
gradient; and all weights. What could not be read was chosen on the tuning language, d included.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch, Output, Prompt
from ctbench.method import Method, hyper

if TYPE_CHECKING:
    from ctbench.data.stream import Stream
    from ctbench.stage import Stage

NUM_FIRST = 512
"""Texts of the first stage whose contexts say what is normal."""


class Hyperprompt(Method):
    """A hypernetwork makes the prompt from the text; random prompts guard what the LM knew."""

    paper: ClassVar[str] = "arXiv:2310.13024"

    prompt_length: int = hyper(4, low=0, high=256)
    """P, vectors in front of the text; 0 leaves the prompt and both losses out."""
    deep: bool = hyper(True)
    """Whether every layer gets vectors of its own, or only the input."""
    num_components: int = hyper(16, low=1)
    """M, prompts that the hypernetwork mixes."""
    bottleneck: int = hyper(32, low=1)
    """Width of the hypernetwork's hidden layer."""
    scale: float = hyper(2.0, low=0.0, tune=(0.5, 1.0, 2.0))
    """Standard deviation of the components at the start; large ones move the hidden states more."""
    agree_on: str = hyper("outputs", choices=("hidden", "outputs"), tune=("hidden", "outputs"))
    """What agrees: the hidden states themselves, or what the LM head makes of them where a token is predicted."""
    agree_weight: float = hyper(1.0, low=0.0, tune=(0.3, 1.0, 3.0))
    """Weight of the agreement with the teacher; 0 is the ablation without it."""
    disagree_weight: float = hyper(0.3, low=0.0, tune=(0.1, 0.3))
    """Weight of the disagreement of the two prompts' hidden states; 0 is the ablation without it."""
    random_fraction: float = hyper(0.5, low=0.0, high=1.0)
    """Share of each batch's rows that are run under a random prompt too, in [0, 1], one row at least; costs two passes."""
    use_hypernetwork: bool = hyper(True)
    """False is the ablation with one learned prompt, the same for every text; random prompts are noise of its spread."""
    context: str = hyper("embeddings", choices=("embeddings", "hidden"))
    """What the hypernetwork reads: the mean of the base's word embeddings, or of its last hidden states (a pass more)."""
    noise: str = hyper("matched", choices=("matched", "plain"))
    """Random prompts: made from a context that is distributed as real ones are, or plain noise of `scale`."""
    train_in_cells: bool = hyper(True)
    """Whether the hypernetwork trains with the LM in a cell, or stays as it is."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        if self.prompt_length:
            backbone.added["hypernetwork"] = Hypernetwork(self, backbone)
            backbone.prompter = "hypernetwork"
        return backbone

    def begin(self, stage: Stage) -> None:
        if self.prompt_length:
            hypernetwork = cast(Hypernetwork, stage.backbone.added["hypernetwork"])
            if not hypernetwork.num_observed:
                hypernetwork.normalise(hypernetwork.context_of(stage.sample(NUM_FIRST)))

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        if not self.prompt_length:
            return super().loss(stage, batch)
        hypernetwork = cast(Hypernetwork, stage.backbone.added["hypernetwork"])
        context = hypernetwork.context_of(batch)
        hypernetwork.observe(context)
        own = stage.backbone(batch, prompt=hypernetwork.prompt_from(context))
        terms = {"lm": own.loss}
        if not (self.agree_weight or self.disagree_weight):
            return terms
        some = _first_rows(batch, max(1, round(self.random_fraction * len(context))))
        noise = hypernetwork.random_prompt(stage, len(some.input_ids))
        lm = bool(self.agree_weight) and self.agree_on == "outputs"
        random = stage.backbone(some, prompt=noise, lm=lm)
        if self.agree_weight:
            with torch.no_grad():
                teacher = stage.teacher(some, prompt=noise, lm=lm)
            terms["agree"] = self.agree_weight * distance_from(teacher, random)
        if self.disagree_weight:
            cosine = F.cosine_similarity(own.hidden[: len(some.input_ids)].float(), random.hidden.float(), dim=-1)
            terms["disagree"] = self.disagree_weight * F.relu(cosine).mean()
        return terms

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(True)
        if self.prompt_length:
            hypernetwork = cast(Hypernetwork, backbone.added["hypernetwork"])
            hypernetwork.requires_grad_(self.train_in_cells)
            hypernetwork.freeze_context()
        return backbone


class Hypernetwork(nn.Module):
    """Makes a prompt of P vectors from the frozen context [B, E] of each text."""

    table: Tensor
    special: Tensor
    center: Tensor
    spread: Tensor
    mean: Tensor
    square: Tensor
    num_observed: Tensor

    def __init__(self, method: Hyperprompt, backbone: Backbone) -> None:
        super().__init__()
        self.method = method
        embeddings = backbone.model.get_input_embeddings().weight.detach()
        hidden = method.context == "hidden"
        width = backbone.hidden_size if hidden else embeddings.shape[1]
        shape = (backbone.num_layers, method.prompt_length, backbone.hidden_size)
        self.shape: tuple[int, ...] = shape if method.deep else (method.prompt_length, backbone.width)
        self.reader = copy.deepcopy(backbone) if hidden else None
        self.register_buffer("table", None if hidden else embeddings.clone())
        self.register_buffer("special", torch.tensor(sorted(backbone.special_ids)))
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("square", torch.ones(width))
        self.register_buffer("num_observed", torch.zeros((), dtype=torch.int64))
        num_mixed = method.num_components
        # One prompt alone is as long as a mixture of all components is at the start.
        self.scale: float = method.scale if method.use_hypernetwork else method.scale / num_mixed**0.5
        num_components = num_mixed if method.use_hypernetwork else 1
        self.components = nn.Parameter(self.scale * torch.randn(num_components, *self.shape))
        self.weigh: nn.Module | None = None
        if method.use_hypernetwork:
            layers = nn.Linear(width, method.bottleneck), nn.Tanh(), nn.Linear(method.bottleneck, num_mixed)
            self.weigh = nn.Sequential(*layers)
        self.freeze_context()

    def freeze_context(self) -> None:
        """Keep the copy of the base that reads the text out of training."""
        if self.reader is not None:
            self.reader.requires_grad_(False)

    def forward(self, backbone: Backbone, batch: Batch) -> Prompt:
        """Return the prompt of each text."""
        return self.prompt_from(self.context_of(batch))

    @torch.no_grad()
    def context_of(self, batch: Batch) -> Tensor:
        """Return the normalised mean over each text's ordinary tokens of what the frozen base makes of them, [B, E]."""
        ids = batch.input_ids
        vectors = F.embedding(ids, self.table) if self.reader is None else self.reader.eval()(batch, lm=False).hidden
        mask = ~torch.isin(ids, self.special)
        weights = (mask if batch.attention_mask is None else mask & batch.attention_mask.bool()).float().unsqueeze(-1)
        mean = (vectors.float() * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return (mean - self.center) / self.spread

    @torch.no_grad()
    def normalise(self, context: Tensor) -> None:
        """Let these contexts [n, E] have mean 0 and variance 1 from now on."""
        self.center.copy_(context.mean(0))
        self.spread.copy_(context.std(0, unbiased=False).clamp(min=1e-6))

    @torch.no_grad()
    def observe(self, context: Tensor) -> None:
        """Let a batch of real contexts enter the mean and the mean square of all so far."""
        self.num_observed += 1
        self.mean.lerp_(context.mean(0), 1.0 / self.num_observed)
        self.square.lerp_(context.square().mean(0), 1.0 / self.num_observed)

    def prompt_from(self, context: Tensor) -> Prompt:
        """Return the mixture of components that the hypernetwork gives each context."""
        if self.weigh is None:
            return Prompt(self.components.expand(len(context), *self.shape), self.method.deep)
        shares = self.weigh(context).float().softmax(-1)
        return Prompt((shares @ self.components.flatten(1)).view(-1, *self.shape), self.method.deep)

    @torch.no_grad()
    def random_prompt(self, stage: Stage, count: int) -> Prompt:
        """Return prompts of random contexts, without gradient."""
        if self.method.noise == "plain" or self.weigh is None:
            return Prompt(self.scale * stage.normal((count, *self.shape), "random prompts"), self.method.deep)
        spread = (self.square - self.mean.square()).clamp(min=0.0).sqrt()
        context = self.mean + spread * stage.normal((count, len(self.mean)), "random prompts")
        return self.prompt_from(context)


def distance_from(teacher: Output, student: Output) -> Tensor:
    """Return the mean KL divergence of their outputs in nats, or the mean squared error of hidden states without any."""
    if teacher.logits is None or student.logits is None:
        return F.mse_loss(student.hidden.float(), teacher.hidden.float())
    wanted, given = (F.log_softmax(logits.float(), dim=-1) for logits in (teacher.logits, student.logits))
    return F.kl_div(given, wanted, log_target=True, reduction="batchmean")


def _first_rows(batch: Batch, count: int) -> Batch:
    """Return the first `count` texts of a batch; every row has as many places to predict."""
    mask, positions = batch.attention_mask, batch.positions
    return Batch(
        input_ids=batch.input_ids[:count],
        attention_mask=None if mask is None else mask[:count],
        positions=None if positions is None else positions[: count * len(positions) // len(batch.input_ids)],
    )
