"""Which documents of a text are held out: a share of its tokens, chosen by the content of the documents.

The choice does not depend on the order of the documents, and copies of a document go the same way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctbench.data.schema import GENERAL, Domain, Stream, SyntheticText
from ctbench.data.sources import fingerprint
from ctbench.errors import BadData

HELD_OUT_FRACTION = 0.02
MOST_HELD_OUT_FRACTION = 0.2
ENOUGH_HELD_OUT_TOKENS = 512
"""Where 2 % of the tokens are fewer, more are held out, up to a fifth: the LM loss needs some blocks."""
SPLIT_VERSION = 2
"""Raised whenever the same text and tokenizer are split in another way. Enters the name of every text that is split in
tokens, which the synthetic language is not: its documents are alike, so that a share of them is a share of the tokens."""

Hashes = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CorpusSize:
    """How much of a text is trained on and held out.

    Attributes:
        name: the domain, None for general text.
    """

    name: str | None
    train_documents: int
    train_tokens: int
    held_out_documents: int
    held_out_tokens: int

    @property
    def held_out_fraction(self) -> float:
        """Share of the tokens that are held out, in [0, 1]."""
        return self.held_out_tokens / (self.train_tokens + self.held_out_tokens)


def corpus_fingerprint(stream: Stream, domain: Domain | None) -> str:
    """Return the SHA-256 of a domain's text (or the general text) and of how it is split; raises BadData."""
    if domain is None:
        assert stream.general is not None
        text = fingerprint(stream, stream.general, domain=None)
        return _hash(["general", text, SPLIT_VERSION]) if is_split_in_tokens(stream, None) else text
    held_out = ""
    if domain.held_out is not None:
        held_out = fingerprint(stream, domain.held_out, domain=domain.name, purpose="held_out")
    elif is_split_in_tokens(stream, domain):
        held_out = f"split {SPLIT_VERSION}"
    return _hash([domain.name, fingerprint(stream, domain.text, domain=domain.name), held_out])


def text_digest(stream: Stream, name: str) -> str:
    """Return the fingerprint of a domain's text and held-out text, or of the general text; raises BadData."""
    is_general = name == GENERAL and name not in stream.names
    return corpus_fingerprint(stream, None if is_general else stream.domain(name))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_split_in_tokens(stream: Stream, domain: Domain | None) -> bool:
    """Tell whether the held-out part of a text is a share of its tokens; it may also be declared, or synthetic."""
    text = domain.text if domain else stream.general
    return (domain is None or domain.held_out is None) and not isinstance(text, SyntheticText)


def choose_held_out(hashes: Hashes, lengths: Lengths, *, in_tokens: bool, whose: str) -> Flags:
    """Say of every document whether it is held out.

    Documents are taken in the order of their hashes until they have `HELD_OUT_FRACTION` of the tokens; one that does
    not fit is passed over. If none fits, the shortest is held out, unless it has more than `MOST_HELD_OUT_FRACTION`.

    Args:
        hashes: of the contents, [num_documents].
        lengths: in tokens, [num_documents].
        in_tokens: False takes the share of the documents instead.
        whose: what the text is, for messages.

    Raises:
        BadData: the text is too little or has too few documents.
    """
    if not in_tokens:
        return _by_documents(hashes, lengths)
    contents, numbers = np.unique(hashes, return_inverse=True)
    sizes = np.bincount(numbers, weights=lengths, minlength=len(contents)).astype(np.int64)
    most = int(MOST_HELD_OUT_FRACTION * sizes.sum())
    room = max(int(HELD_OUT_FRACTION * sizes.sum()), min(ENOUGH_HELD_OUT_TOKENS, most))
    is_kept = np.zeros(len(contents), dtype=np.bool_)
    smallest = int(sizes.min()) if len(sizes) else 0
    for index in range(len(contents)):
        if room < smallest:
            break
        if sizes[index] <= room:
            is_kept[index] = True
            room -= int(sizes[index])
    if not is_kept.any() and len(contents) > 1 and smallest <= most:
        is_kept[int(sizes.argmin())] = True
    if not is_kept.any():
        raise BadData(_too_little(sizes, whose))
    flags: Flags = is_kept[numbers]
    return flags


def _too_little(sizes: Lengths, whose: str) -> str:
    advice = "add text, declare a held_out source, or choose smaller documents"
    if len(sizes) < 2:
        return (
            f"{whose} is {'a single document' if len(sizes) else 'no document'}, copies left out; at least two are "
            f"wanted, because some are held out: {advice}"
        )
    share = sizes.min() / sizes.sum()
    return (
        f"{whose} is too little to hold some of it out: {len(sizes)} documents with {sizes.sum():,} tokens, of which the "
        f"shortest has {sizes.min():,} ({share:.0%}), and at most {MOST_HELD_OUT_FRACTION:.0%} may be held out: {advice}"
    )


def _by_documents(hashes: Hashes, lengths: Lengths) -> Flags:
    """Hold out the documents with the smallest hashes: 2 % of them, of little text up to a fifth, at least one."""
    fraction = HELD_OUT_FRACTION
    flags: Flags = hashes < np.uint64(int(fraction * 2**64))
    while lengths[flags].sum() < ENOUGH_HELD_OUT_TOKENS and fraction < MOST_HELD_OUT_FRACTION:
        fraction = min(2 * fraction, MOST_HELD_OUT_FRACTION)
        flags = hashes < np.uint64(int(fraction * 2**64))
    return flags if flags.any() or not len(hashes) else hashes == hashes.min()


def require_both_parts(num_train: int, num_held_out: int, *, whose: str) -> None:
    """Refuse a text of which nothing is left to train on, or nothing held out.

    Raises:
        BadData: one of the numbers of documents is 0.
    """
    if num_train == 0 or num_held_out == 0:
        raise BadData(
            f"{whose}: {num_train} documents to train on and {num_held_out} held out; wanted at least one of each "
            "that differ: add text, declare another held_out source, or choose smaller documents"
        )
