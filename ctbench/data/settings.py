"""The recipes that a stream's protocol fixes: how an LM is made, pre-trained and fine-tuned.

Each class is a table of the stream's TOML. The docstring under a field is its help text on the command line and its row
in the README; the annotation is its range. Values are checked where TOML is read (`ctbench.data.config`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict

MOST: Final = 10**15
"""Largest whole number: tokens that no machine reads in a lifetime are a slip of the keyboard."""


def _as_whole(value: object) -> object:
    if isinstance(value, int | float) and MOST < abs(value) != math.inf:
        raise ValueError(f"must be at most {MOST:,}, found {str(value)[:20]}")
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

OFF_PROTOCOL: Final = ("compiled", "probes", "shard_weights")
"""Keys of `PretrainRecipe` in which runs under one protocol may differ."""


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
