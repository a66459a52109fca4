"""The knobs of the synthetic language: the table `language` of a stream's TOML.

The docstring under a field is its help text on the command line and in the reference; the annotation is its range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import ConfigDict, Field, Strict

from ctbench.data.settings import Inner, Natural, Share, Whole

Size = Annotated[Whole, Field(ge=1, le=10**8)]
"""A hundred million sentences take a day to make."""
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
    num_anchors: Size = 10
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
    num_train: Size = 200
    """Labelled training examples per end task."""
    num_validation: Natural = 300
    """Validation examples per end task; 0 leaves the split out."""
    num_test: Size = 1000
    """Test examples per end task."""
    num_documents: Size = 12_000
    """Documents of raw text per domain."""
    num_general_documents: Size = 80_000
    """Documents of general text."""
    num_held_out: Size = 700
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
