"""Everything numeric that a stream's protocol fixes: the two recipes and the knobs of the synthetic language.

Each class is a table of the stream's TOML. The docstring under a field is its help text on the command line and its row
in the README; the annotation is its range. Values are checked where TOML is read (`ctbench.data.config`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict


def _as_whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 1e6 is a float in TOML


Text = Annotated[str, Strict(), Field(min_length=1)]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict(), BeforeValidator(_as_whole)]
Count = Annotated[Whole, Field(ge=1)]
Natural = Annotated[Whole, Field(ge=0)]
Weight = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Strict(), Field(gt=0, le=1)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Inner = Annotated[float, Strict(), Field(gt=0, lt=1)]
Threads = Annotated[Whole, Field(ge=1, le=256)]
Schedule = Literal["linear", "cosine", "constant"]
StageSchedule = Literal["linear", "cosine", "constant", "wsd", "rsqrt", "ar_cap", "infinite"]
Precision = Literal["fp32", "bf16", "auto"]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


def _check_distinct(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(value)) < len(value):
        raise ValueError("must not repeat a seed")
    return value


Texts = Annotated[tuple[Text, ...], BeforeValidator(_as_list), Field(min_length=1)]
MoreSeeds = Annotated[tuple[Natural, ...], BeforeValidator(_as_list), AfterValidator(_check_distinct)]
Seeds = Annotated[MoreSeeds, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """How the LM is pre-trained, on general text (`[base]`) or in one stage (`[pretrain]`).

    Examples:
        >>> PretrainRecipe(tokens=1000, batch=4, length=32).num_steps
        8
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    tokens: Count
    """Token budget of a stage, places of a batch counted whole; rounded up to full steps."""
    objective: Literal["auto", "mlm", "clm"] = "auto"
    """Masked or causal LM; `auto` takes the one of the backbone."""
    batch: Count = 32
    """Blocks per step."""
    length: Annotated[Whole, Field(ge=4)] = 128
    """Tokens per block, special ones included."""
    lr: Rate = 1e-4
    """Peak learning rate of AdamW, in (0, 1]."""
    schedule: StageSchedule = "linear"
    """How the learning rate changes after the warm-up: in a line or half a cosine to `min_lr`, not at all (`constant`), or
    held and then annealed (`wsd`). `rsqrt`, `ar_cap` and `infinite` cross stages: see docs/concepts/schedules.md."""
    warmup_fraction: Share = 0.1
    """Share of the steps in which the learning rate rises from 0, in [0, 1]; under `infinite` of the first stage's."""
    weight_decay: Weight = 0.0
    """Decoupled weight decay of AdamW, at least 0; biases and norms are spared."""
    clip: Weight = 1.0
    """Largest norm of the whole gradient, at least 0; 0 switches clipping off."""
    mask_fraction: Inner = 0.15
    """Share of the tokens that a masked LM has to predict, in (0, 1)."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass; `auto` is bf16 where the hardware has it."""
    compiled: Annotated[bool, Strict()] = False
    """On a GPU, compile the layers first; that takes a while and pays where a stage has thousands of small steps."""
    threads: Threads = 1
    """CPU threads of the node; part of its key, for they change the last bits."""
    held_out_tokens: Count = 20_000
    """At most so many held-out tokens per domain enter the LM-loss matrix."""
    min_lr: Share = 0.0
    """Learning rate at which a schedule that falls ends, at most `lr`; 0 stands for a tenth of `lr` under `infinite`."""
    anneal_fraction: Inner = 0.2
    """Share of a stage in which the rate is annealed under `wsd`, `rsqrt` and `infinite`, in (0, 1)."""
    constant_fraction: Annotated[float, Strict(), Field(gt=0, le=1)] = 1.0
    """Schedule `infinite`: rate of the trunk over the peak rate, in (0, 1]; 0.3 to 0.5 in the papers."""
    cooldown_fraction: Inner = 0.3
    """Schedule `infinite`: share of the first stage in which the rate falls from its peak to that of the trunk, in (0, 1);
    there is nothing to cool if `constant_fraction` is 1."""
    carry_optimizer: Flag = False
    """Whether a stage goes on with the optimiser's moments of the stage before, or begins with none."""
    equal_compute: Flag = False
    """Whether a stage makes as many updates as the FLOPs of naive's `tokens` buy, in place of as many as `tokens` buy."""
    probes: Annotated[Whole, Field(ge=0, le=1000)] = 0
    """How often inside a stage the held-out losses of past domains and general text are measured, at log-spaced updates; 0 is
    never, 8 is usual. No other number changes."""
    accumulate: Count = 1
    """Parts in which the rows of a batch go through the LM, one after the other, where memory does not hold all at once; each
    is computed once more for its gradient. 1 is off; others change the last bits."""
    checkpoint_activations: Flag = False
    """Whether only what lies between two layers is kept for the backward pass, and the inside of a layer is computed again."""
    shard_weights: Flag = False
    """Whether ranks of `torchrun` hold weights, gradients and moments in shards (FSDP2) while a stage makes its updates; in one
    process nothing changes. For methods that leave gradients and weights alone between updates."""

    def __post_init__(self) -> None:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr must be at most lr, found {self.min_lr:g} above {self.lr:g}")
        parts = ["warmup_fraction", *(["anneal_fraction"] if self.schedule in ("wsd", "rsqrt", "infinite") else [])]
        if self.schedule == "infinite" and self.constant_fraction < 1:
            parts.append("cooldown_fraction")
        if self.compiled and (self.accumulate > 1 or self.checkpoint_activations):
            raise ValueError(
                "compiled layers cannot be computed again: leave out accumulate and checkpoint_activations"
            )
        if self.compiled and self.shard_weights:
            raise ValueError("compiled layers cannot be put together from shards: leave out shard_weights")
        if len(parts) > 1 and sum(getattr(self, part) for part in parts) > 1 + 1e-9:
            raise ValueError(f"{' + '.join(parts)} must be at most 1 under the schedule {self.schedule}")

    @property
    def num_steps(self) -> int:
        """Number of optimiser updates that the token budget buys."""
        return -(-self.tokens // (self.batch * self.length))


LATER: Final = (
    "min_lr",
    "anneal_fraction",
    "constant_fraction",
    "cooldown_fraction",
    "carry_optimizer",
    "equal_compute",
    "probes",
    "accumulate",
    "checkpoint_activations",
    "shard_weights",
)
"""Keys of `PretrainRecipe` added since results exist: at their defaults they enter neither keys nor protocols nor results."""


@dataclass(frozen=True, kw_only=True)
class BaseRecipe(PretrainRecipe):
    """How an LM is pre-trained on general text before row 0 (`[base]`): an embedded model always, a checkpoint if asked."""

    warmup: Literal["none", "head", "all"] = "none"
    """Of a checkpoint: nothing, or its LM head alone while the rest is frozen, or the head and then everything, for
    `tokens` each. A checkpoint without an LM head that fits it needs one: row 0 is the LM after the warm-up."""
    head_lr: Rate | None = None
    """Peak learning rate while the LM head trains alone, in (0, 1]; by default `lr`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard_weights:
            raise ValueError("shard_weights is for stages: of a base, one rank trains it whole")


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """How a cell fine-tunes the LM on an end task."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    epochs: Count = 5
    """Passes over the training examples; the LM after the last one is scored."""
    lr: Rate = 3e-5
    """Peak learning rate of AdamW, in (0, 1]."""
    batch: Count = 16
    """Examples per step."""
    seeds: Seeds = (0, 1, 2)
    """Fine-tuning seeds by their numbers; every cell is the mean over them."""
    base_seeds: MoreSeeds = ()
    """Further fine-tuning seeds of the untouched LM, whose cells all runs share; `seeds` are always among them."""
    schedule: Schedule = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_fraction: Share = 0.1
    """Share of the steps in which the learning rate rises from 0, in [0, 1]."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay of AdamW, at least 0; biases and norms are spared."""
    clip: Weight = 1.0
    """Largest norm of the whole gradient, at least 0; 0 switches clipping off."""
    dropout: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.1
    """Dropout before the classifier, in [0, 1)."""
    pooling: Literal["auto", "mean", "first", "last"] = "auto"
    """What the classifier reads: mean of the tokens, first or last one; `auto` is mean for encoders, last for decoders."""
    head: Literal["lm", "plain"] = "lm"
    """Whether the classifier reads through the LM head's own transform or the plain hidden states."""
    max_length: Annotated[Whole, Field(ge=4)] = 128
    """Longest example in tokens; longer ones are cut at the end."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass; `auto` is bf16 where the hardware has it."""
    threads: Threads = 1
    """CPU threads of the node; part of its key, for they change the last bits."""

    def seeds_of(self, *, is_base: bool) -> tuple[int, ...]:
        """Return the fine-tuning seeds of the cells of the untouched LM, or of another.

        Examples:
            >>> FinetuneRecipe(seeds=(0, 1), base_seeds=(0, 1, 2, 3)).seeds_of(is_base=True)
            (0, 1, 2, 3)
        """
        return tuple(dict.fromkeys((*self.seeds, *self.base_seeds))) if is_base else self.seeds


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The chosen way to pre-train and fine-tune, and the backbone it is meant for."""

    name: str
    model: str
    base: BaseRecipe | None
    pretrain: PretrainRecipe
    finetune: FinetuneRecipe


KNOBS_OF_A_KIND: Final = {"domain": ("sharing", "polysemy", "transfer"), "temporal": ("drift", "turnover")}
"""Knobs of the synthetic language that change nothing in streams of the other kind."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """The knobs of the synthetic language; `ctbench.data.synthetic.language` says what they do.

    Shares of a domain's lexicon: `sharing` + `polysemy` + `transfer` <= 1, the rest are words of its own.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    seed: Natural = 0
    """Everything that is random about the language; another seed is another language with the same laws."""
    num_domains: Annotated[int, Strict(), Field(ge=1, le=50)] = 5
    """Domains or periods."""
    num_classes: Annotated[int, Strict(), Field(ge=2, le=50)] = 8
    """Latent classes of content words; also the labels of every end task."""
    words_per_class: Annotated[int, Strict(), Field(ge=4, le=400)] = 40
    """Content words of a class in the general lexicon, and in that of every domain."""
    num_anchors: Count = 10
    """Anchor words per class: they betray the class in raw text and are absent from the end tasks."""
    num_function_words: Annotated[int, Strict(), Field(ge=1, le=300)] = 40
    """Function words: they say nothing."""
    sharing: Share = 0.6
    """Kind domain: share of a domain's lexicon that are general words in their general class; 1 makes all domains alike."""
    polysemy: Share = 0.2
    """Kind domain: share of a domain's lexicon that are general words under another class; 0 leaves no interference."""
    transfer: Share = 0.1
    """Kind domain: share of a domain's lexicon taken, with its class, from the words of the domain before."""
    drift: Share = 0.15
    """Kind temporal: share of the living words that move to another class from one period to the next."""
    turnover: Share = 0.15
    """Kind temporal: share of the living words that die from one period to the next, replaced by new-born ones."""
    clauses: Annotated[int, Strict(), Field(ge=1, le=200)] = 10
    """Clauses of three words in a document of raw text."""
    task_clauses: Annotated[int, Strict(), Field(ge=1, le=200)] = 4
    """Clauses of three words in a text of an end task."""
    anchor_fraction: Share = 0.6
    """Share of the clauses of raw text that hold an anchor word; 0 leaves only co-occurrence to learn from."""
    noise: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.2
    """Share of the clauses that are drawn from a random class, in [0, 1)."""
    background: Share = 0.1
    """Share of the content words of general text drawn from all words of all domains, whatever their class."""
    scarcity: Inner = 0.5
    """Share of each class's words that training examples never show, in (0, 1)."""
    num_train: Count = 200
    """Labelled training examples per end task."""
    num_validation: Natural = 300
    """Validation examples per end task; 0 leaves the split out."""
    num_test: Count = 1000
    """Test examples per end task."""
    num_documents: Count = 12_000
    """Documents of raw text per domain."""
    num_general_documents: Count = 80_000
    """Documents of general text."""
    num_held_out: Count = 700
    """Held-out documents per domain, for the LM-loss matrix."""

    def __post_init__(self) -> None:
        if self.sharing + self.polysemy + self.transfer > 1 + 1e-9:
            raise ValueError("sharing + polysemy + transfer must be at most 1")
        if self.drift + self.turnover > 1 + 1e-9:
            raise ValueError("drift + turnover must be at most 1")
        if self.noise >= 1 - 1 / self.num_classes:
            raise ValueError("noise must be below 1 - 1 / num_classes, or a clause speaks against its sentence's class")

    def require_kind(self, kind: str) -> None:
        """Refuse knobs that change nothing in a stream of this kind.

        Raises:
            ValueError: a knob of another kind is not at its default.
        """
        for other, knobs in KNOBS_OF_A_KIND.items():
            changed = [knob for knob in knobs if getattr(self, knob) != getattr(Language, knob)]
            if other != kind and changed:
                raise ValueError(
                    f"language.{changed[0]} changes nothing in a stream of kind '{kind}' (kind '{other}' alone has it); "
                    "leave it out"
                )
