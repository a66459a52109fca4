"""Hypermap: maps of word embeddings from a hypernetwork, with agreement and disagreement.

A method of ctbench's own. The design is that of hyperprompt (Jiang et al. 2023, arXiv:2310.13024) with the prompts
exchanged: what a domain teaches is about words, and prompts in front of the text cannot hold it, a linear map of the
word embeddings can. M maps A_m of low rank are mixed by a hypernetwork s that reads what the text is about, c(x): the
running mean of whitened, rarity-weighted word embeddings. Words enter as e (I + A) and leave as h (I + A)^T, with
A = gain * sum_m s_m(c) A_m. Under a random context z (a past one, or random signs) the LM must agree with its teacher,
the LM before this stage; s must give z other maps than c(x), and past contexts the maps they had:

    L = L_lm(x | c(x)) + agree_weight * KL(teacher(x | z) || LM(x | z))
        + disagree_weight * mean s(c(x)) . s(z) (1 - cos(c(x), z)) + keep_weight * KL(s_teacher(z) || s(z)), z past

Without the agreement past and unseen domains are lost; with one map for all (num_maps=1) there is nothing to choose:
it learns less and forgets. The disagreement changes no score (three runs on `domain`; ablations in docs/results.md): to
agree under other contexts and learn under its own, the hypernetwork gives them other maps by itself.
No domain is named and no text kept, only one context per stage, and which words the base expects in text like the
first stage's: rare ones count most. Under one context the LM is an ordinary one with the embedding matrices W (I + A),
which can be baked in (`WordMap.baked`). Tied embeddings share their maps; an output embedding of its own has its own. A
decoder's context is that of other texts, and with reads=single of the text to the left.

Kin: invertible adapters on the word embeddings, undone at the output (MAD-X, arXiv:2005.00052; ours are linear, mixed
from the text, and transposed, not inverted); hypernetworks that make adapters (HyperFormer, arXiv:2106.04489); mixtures
of prompts (CoDA-Prompt, arXiv:2211.13218). Differs from the paper: there is none; from that of hyperprompt, in the maps,
the contexts, the disagreement on shares instead of hidden states, and the keeping of shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ctbench import Backbone, Batch, Hypernetwork, LowRankMaps, Method, Mixer, WordMap, hyper
from ctbench.mixer import agreement, mixer_of, random_passes

if TYPE_CHECKING:
    from ctbench import Stage, Stream


class Hypermap(Method):
    """A hypernetwork chooses maps of the word embeddings by the text."""

    version: ClassVar[int] = 4

    num_maps: int = hyper(16, low=0)
    """M, maps that are mixed; 1 leaves nothing to choose, 0 leaves the maps and all losses but the LM's out."""
    rank: int = hyper(32, low=1, tune=(8, 32))
    """Rank of every map; a map costs 2 * rank numbers per unit of width."""
    gain: float = hyper(16.0, low=0.0, tune=(8.0, 16.0, 32.0))
    """The maps move this many times as far as other weights do at the same learning rate; 0 keeps them 0."""
    bottleneck: int = hyper(32, low=1)
    """Width of the hypernetwork's hidden layer."""
    sharpness: float = hyper(6.0, low=0.0)
    """Factor of the softmax's logits; at 1 the shares stay near uniform."""
    agree_weight: float = hyper(3.0, low=0.0, tune=(1.0, 2.0, 3.0))
    """Weight of the agreement with the teacher; 0 is the ablation without it, at half the forward tokens."""
    disagree_weight: float = hyper(0.3, low=0.0, tune=(0.3, 1.0))
    """Weight of the overlap of shares; 0 is the ablation without it."""
    keep_weight: float = hyper(1.0, low=0.0)
    """Weight of keeping the shares that past contexts had; 0 lets the hypernetwork forget."""
    random_fraction: float = hyper(0.5, low=0.0, high=1.0)
    """Share of each batch's rows that are run under a random context too, in [0, 1], one row at least; costs two passes."""
    context: str = hyper("whitened", choices=("whitened", "plain", "random"))
    """What the hypernetwork reads: whitened word embeddings of the base, plain ones, or a random vector per word."""
    reads: str = hyper("running", choices=("running", "single"))
    """Whose context it is: that of all texts so far, or of each single text."""
    places: str = hyper("both", choices=("both", "in", "out"))
    """Where words are mapped: where they enter and leave, only where they enter, or only where they leave."""
    cell_trains: str = hyper("network", choices=("network", "all", "none"))
    """What trains in a cell beside the LM: the hypernetwork, its maps too, or neither."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        if self.num_maps:
            backbone.added["maps"] = Maps(self, backbone)
            backbone.prompter = "maps"
        return backbone

    def begin(self, stage: Stage) -> None:
        if self.num_maps:
            mixer_of(stage.backbone).network.begin(stage)

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        if not self.num_maps:
            return super().loss(stage, batch)
        maps = mixer_of(stage.backbone)
        context = maps.network.stage_context(stage, batch)
        shares = maps.network(context)
        terms = {"lm": stage.backbone(batch, prompt=maps.of(shares)).loss}
        if self.agree_weight:
            student, teacher = random_passes(stage, batch, context, fraction=self.random_fraction)
            terms["agree"] = self.agree_weight * agreement(student, teacher)
        if self.disagree_weight and self.num_maps > 1:
            terms["disagree"] = self.disagree_weight * maps.network.disagreement(stage, context, shares)
        if self.keep_weight and self.num_maps > 1 and stage.memory:
            terms["keep"] = self.keep_weight * maps.network.keeping(stage)
        return terms

    def end(self, stage: Stage) -> None:
        if self.num_maps:
            mixer_of(stage.backbone).network.remember(stage)

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(True)
        if self.num_maps:
            maps = mixer_of(backbone)
            maps.requires_grad_(self.cell_trains == "all")
            maps.network.requires_grad_(self.cell_trains != "none")
        return backbone


class Maps(Mixer):
    """M low-rank maps and the hypernetwork that mixes them."""

    def __init__(self, method: Hypermap, backbone: Backbone) -> None:
        super().__init__()
        self.network = Hypernetwork(backbone, method.num_maps, like=method)
        size = {"num_maps": method.num_maps, "rank": method.rank}
        self.maps = LowRankMaps(backbone, **size, gain=method.gain, places=method.places)

    def of(self, shares: Tensor) -> WordMap:
        """Return the map that shares give."""
        given: WordMap = self.maps(shares)
        return given
