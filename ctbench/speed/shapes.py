"""Models of well-known shapes with random weights, and random text with a realistic distribution of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ctbench.errors import UnknownName

if TYPE_CHECKING:
    import numpy.typing as npt

    from ctbench.backbone import Backbone
    from ctbench.data.stream import PretrainRecipe

SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MASK_FRACTION: Final = 0.15


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model and the batch it is trained on.

    Args:
        name: name on the command line.
        family: transformers' model_type, "bert" or "roberta"; dropout is the default of the family, 0.1.
        layers: number of layers.
        width: D; the feed-forward part is four times as wide.
        heads: H.
        vocabulary: V.
        length: T, tokens per block.
        batch: B, blocks per step.
    """

    name: str
    family: str
    layers: int
    width: int
    heads: int
    vocabulary: int
    length: int
    batch: int

    @property
    def tokens_per_step(self) -> int:
        """Tokens in a batch."""
        return self.batch * self.length

    @property
    def layer_parameters(self) -> int:
        """Number of weights in the matrices of all layers."""
        return 12 * self.layers * self.width**2

    def flops_per_token(self) -> float:
        """Return the floating-point operations that training needs per token, forward and backward.

        Only matrix products count, and those of the LM head only for predicted tokens: a loop that runs the head on all
        tokens gets no credit for the rest.

        Examples:
            >>> round(SHAPES["22m"].flops_per_token() / 1e6)
            78
        """
        attention = 2 * self.layers * self.length * self.width
        head = MASK_FRACTION * (self.vocabulary * self.width + self.width**2)
        return 6.0 * (self.layer_parameters + attention + head)


SHAPES: Final[Mapping[str, Shape]] = {
    shape.name: shape
    for shape in (
        Shape(name="tiny", family="bert", layers=2, width=128, heads=2, vocabulary=2_000, length=64, batch=32),
        Shape(name="22m", family="bert", layers=6, width=384, heads=12, vocabulary=30_522, length=128, batch=16),
        Shape(
            name="roberta-base",
            family="roberta",
            layers=12,
            width=768,
            heads=12,
            vocabulary=50_265,
            length=128,
            batch=64,
        ),
        Shape(
            name="roberta-base-512",
            family="roberta",
            layers=12,
            width=768,
            heads=12,
            vocabulary=50_265,
            length=512,
            batch=16,
        ),
    )
}


def find_shape(name: str) -> Shape:
    """Return the shape with a name.

    Raises:
        UnknownName: there is none.
    """
    if name not in SHAPES:
        raise UnknownName("shape", name, SHAPES)
    return SHAPES[name]


def make_config(shape: Shape) -> Any:
    """Return transformers' configuration of a shape, with the default dropout of its family."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        shape.family,
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=shape.length + 2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )


def make_tokenizer(shape: Shape) -> Any:
    """Return a word-level tokenizer with the words t5, t6, ... and the vocabulary size of the shape."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL_TOKENS, *(f"t{number}" for number in range(len(SPECIAL_TOKENS), shape.vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(names, SPECIAL_TOKENS, strict=True)))


def make_model(shape: Shape, *, seed: int = 0) -> Any:
    """Return transformers' masked LM of a shape with random weights."""
    import torch
    from transformers import AutoModelForMaskedLM

    from ctbench.backbone.loading import quiet

    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        return AutoModelForMaskedLM.from_config(make_config(shape))


def make_backbone(shape: Shape, *, seed: int = 0) -> Backbone:
    """Return the same LM, wrapped for the engine."""
    from ctbench.backbone import Backbone

    return Backbone(make_model(shape, seed=seed), tokenizer=make_tokenizer(shape), objective="mlm", name=shape.name)


def save_checkpoint(shape: Shape, folder: Path) -> Path:
    """Write the LM and its tokenizer as a checkpoint folder that both sides can load."""
    from ctbench.backbone.loading import quiet

    with quiet():
        make_model(shape).save_pretrained(folder)
        make_tokenizer(shape).save_pretrained(folder)
    return folder


def make_recipe(
    shape: Shape, *, num_steps: int, precision: str, threads: int, compiled: bool = False
) -> PretrainRecipe:
    """Return the recipe of a measured stage: the defaults of the Hugging Face Trainer that affect its speed."""
    from ctbench.data.stream import PretrainRecipe

    return PretrainRecipe(
        tokens=num_steps * shape.tokens_per_step,
        batch=shape.batch,
        length=shape.length,
        lr=1e-4,
        mask_fraction=MASK_FRACTION,
        precision=precision,  # type: ignore[arg-type]  # checked by the caller
        threads=threads,
        compiled=compiled,
    )


class RandomBlocks:
    """Blocks of random tokens that begin with [CLS]; word r has a frequency proportional to 1 / (r + 2.7) (Mandelbrot).

    Args:
        vocabulary: V.
        length: tokens per block, T.
        num_blocks: number of blocks.
        seed: seed of the tokens.
    """

    def __init__(self, *, vocabulary: int, length: int, num_blocks: int, seed: int = 0) -> None:
        self.length = length
        self._rows = random_tokens(vocabulary, num_blocks * length, seed=seed).reshape(num_blocks, length)
        self._rows[:, 0] = SPECIAL_TOKENS.index("[CLS]")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._rows[rows]

    @cached_property
    def lists(self) -> list[list[int]]:
        """The blocks as lists, for a Hugging Face data set."""
        return [[int(token) for token in row] for row in self._rows]


def random_tokens(vocabulary: int, count: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Return `count` random tokens, without special ones, distributed by Mandelbrot's law."""
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = 1.0 / (np.arange(vocabulary - len(SPECIAL_TOKENS)) + 2.7)
    drawn = generator.choice(len(weights), size=count, p=weights / weights.sum())
    return (drawn + len(SPECIAL_TOKENS)).astype(np.int64)


def random_texts(vocabulary: int, lengths: Sequence[int], *, seed: int) -> list[str]:
    """Return texts of random words; `lengths` holds the number of words of each."""
    tokens = random_tokens(vocabulary, sum(lengths), seed=seed)
    ends = np.cumsum(lengths)
    return [" ".join(f"t{token}" for token in part) for part in np.split(tokens, ends[:-1])]
