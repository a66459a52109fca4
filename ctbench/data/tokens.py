"""Tokenised text on disk: documents packed into one flat, memory-mapped file that all runs share.

A domain's held-out text never enters its training text: it is a declared source, whose documents are dropped from the
training text, or documents with 2 % of the tokens (of little text more, up to 20 %) that `ctbench.data.split` chooses.
Copies of a document in the text of another domain are trained on there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctbench.data.encode import (
    EncodedBatch,
    encode_documents,
    end_of_document,
    is_wide,
    plain_tokenizer,
    tokenizer_digest,
)
from ctbench.data.packed import Blocks, Rows, TokenFile, TokenWriter, pack
from ctbench.data.schema import Domain, Stream
from ctbench.data.sources import fingerprint, read_texts
from ctbench.data.split import (
    SPLIT_VERSION,
    CorpusSize,
    Flags,
    choose_held_out,
    is_split_in_tokens,
    require_both_parts,
)
from ctbench.errors import BadData, Notice, RunFailed, unwritable
from ctbench.machine.claims import SUFFIX, claimed
from ctbench.machine.files import scratch_beside, whole_folder
from ctbench.machine.manifest import Damaged, damage_of, read_manifest, set_aside, write_manifest

__all__ = [
    "Blocks",
    "Corpus",
    "CorpusSize",
    "TokenFile",
    "corpus",
    "corpus_size",
    "pack",
    "plain_tokenizer",
    "tokenizer_digest",
]

PACKING_VERSION = 2
"""Raised whenever the same text and tokenizer give another file, together with `ctbench.engine.node.NODE_SCHEMA`: nodes are
named after the raw text."""

PARTS = ("train", "held_out")
"""The folders of a corpus."""

_CHUNK = 2**14
"""Documents that are copied at a time."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Packed text of a domain, or of the general text."""

    train: TokenFile
    held_out: TokenFile


class _Texts:
    """The texts of a corpus, and what it is called.

    Args:
        stream: the stream.
        domain: a domain of the stream, None for general text.
        tokenizer: a fast tokenizer of transformers.

    Raises:
        BadData: there is no general text.
    """

    def __init__(self, stream: Stream, domain: Domain | None, tokenizer: Any) -> None:
        source = domain.text if domain else stream.general
        if source is None:
            raise BadData(f"stream {stream.name} has no general text; add a table [general] with a text source")
        self.name = domain.name if domain else None
        self.stream = stream.name
        self.whose = f"text of domain {self.name}" if self.name else "general text"
        self.declared = domain.held_out if domain else None
        self.in_tokens = is_split_in_tokens(stream, domain)
        self._stream, self._source, self._tokenizer = stream, source, tokenizer

    def key(self) -> str:
        """Return the name of the corpus in the cache: a digest of the text, the tokenizer and how the text is split."""
        parts = [fingerprint(self._stream, self._source, domain=self.name)]
        if self.declared:
            parts.append(fingerprint(self._stream, self.declared, domain=self.name, purpose="held_out"))
        about = [PACKING_VERSION, tokenizer_digest(self._tokenizer), end_of_document(self._tokenizer), *parts]
        about += [["split", SPLIT_VERSION]] if self.in_tokens else []
        about += [["wide"]] if is_wide(self._tokenizer) else []  # their ids once wrapped
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]

    def encode(self) -> Iterator[EncodedBatch]:
        """Yield the text as tokens."""
        return encode_documents(read_texts(self._stream, self._source, domain=self.name), self._tokenizer)

    def encode_declared(self) -> Iterator[EncodedBatch]:
        """Yield the declared held-out text as tokens."""
        assert self.declared is not None
        texts = read_texts(self._stream, self.declared, domain=self.name, purpose="held_out")
        return encode_documents(texts, self._tokenizer)


def corpus(stream: Stream, domain: Domain | None, *, tokenizer: Any, cache: Path) -> Corpus:
    """Return a domain's text (or the general text) packed; tokenised once and shared by all runs and processes.

    Args:
        stream: the stream.
        domain: a domain of the stream, None for general text.
        tokenizer: a fast tokenizer of transformers.
        cache: folder for packed text.

    A packed corpus is compared with its checksums; a damaged one is set aside with a notice and packed again.

    Raises:
        BadData: the text cannot be read, or is too little to hold some of it out.
        RunFailed: the folder cannot be written.
    """
    texts = _Texts(stream, domain, tokenizer)
    folder = cache / texts.key()
    if not folder.is_dir() or damage_of(folder) is not None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with claimed(folder.with_suffix(SUFFIX)):
                _make_whole(texts, tokenizer, folder)
        except OSError as error:
            whose = f"{texts.whose}, packed into '{cache}',"
            raise RunFailed(unwritable(whose, error, "set CTBENCH_HOME to another folder")) from error
    return Corpus(train=TokenFile(folder / "train"), held_out=TokenFile(folder / "held_out"))


def corpus_size(stream: Stream, domain: Domain | None, *, tokenizer: Any, cache: Path) -> CorpusSize:
    """Return how much of a text `corpus` trains on and holds out, and write nothing.

    Raises:
        BadData: as `corpus`.
    """
    texts = _Texts(stream, domain, tokenizer)
    sizes = _recorded(cache / texts.key()) or _measure(texts)
    (num_train, train_tokens), (num_held_out, held_out_tokens) = sizes
    return CorpusSize(
        name=texts.name,
        train_documents=num_train,
        train_tokens=train_tokens,
        held_out_documents=num_held_out,
        held_out_tokens=held_out_tokens,
    )


def _measure(texts: _Texts) -> list[tuple[int, int]]:
    """Return (documents, tokens) of what is trained on and of what is held out."""
    found = [(batch.hashes, batch.lengths) for batch in texts.encode()]
    hashes, lengths = _joined([pair[0] for pair in found], np.uint64), _joined([pair[1] for pair in found], np.int64)
    if texts.declared:
        kept = [(batch.hashes, batch.lengths) for batch in texts.encode_declared()]
        is_held_out = np.isin(hashes, _joined([pair[0] for pair in kept], np.uint64))
        held_out = _joined([pair[1] for pair in kept], np.int64)
    else:
        is_held_out = choose_held_out(hashes, lengths, in_tokens=texts.in_tokens, whose=texts.whose)
        held_out = lengths[is_held_out]
    train = lengths[~is_held_out]
    require_both_parts(len(train), len(held_out), whose=texts.whose)
    return [(len(train), int(train.sum())), (len(held_out), int(held_out.sum()))]


def _joined(arrays: list[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=dtype), *arrays])


def _recorded(folder: Path) -> list[tuple[int, int]] | None:
    """Return the sizes that `_measure` would return, from a corpus that is packed already; None if there is none."""
    try:
        sizes = read_manifest(folder)["record"]["sizes"]
        return [(int(documents), int(tokens)) for documents, tokens in (sizes[part] for part in PARTS)]
    except (Damaged, OSError, LookupError, TypeError, ValueError):
        return None


def _make_whole(texts: _Texts, tokenizer: Any, folder: Path) -> None:
    """Pack a corpus unless it is there and intact; what is damaged is set aside."""
    if folder.is_dir():
        damage = damage_of(folder)
        if damage is None:
            return  # another process packed it meanwhile
        set_aside(folder)
        warnings.warn(
            f"damaged: packed {texts.whose}: {damage}; it is set aside and packed again", Notice, stacklevel=3
        )
    _pack_corpus(texts, tokenizer, folder)


def _pack_corpus(texts: _Texts, tokenizer: Any, folder: Path) -> None:
    """Pack both parts of a corpus into `folder`, which appears whole or not at all."""
    with whole_folder(folder) as scratch:
        places = [scratch / part for part in PARTS]
        with TokenWriter(places[0], tokenizer) as train, TokenWriter(places[1], tokenizer) as held_out:
            if texts.declared:
                _pack_declared(texts, train, held_out)
            else:
                _pack_chosen(texts, scratch_beside(folder), tokenizer, train, held_out)
        require_both_parts(train.num_documents, held_out.num_documents, whose=texts.whose)
        sizes = {
            part: (each.num_documents, each.num_tokens) for part, each in zip(PARTS, (train, held_out), strict=True)
        }
        write_manifest(scratch, {"stream": texts.stream, "domain": texts.name, "sizes": sizes})


def _pack_declared(texts: _Texts, train: TokenWriter, held_out: TokenWriter) -> None:
    """Pack declared held-out text, and the training text without it."""
    reserved = []
    for batch in texts.encode_declared():
        reserved.append(batch.hashes)
        held_out.add(batch.tokens, batch.lengths)
    hashes = np.unique(_joined(reserved, np.uint64))
    for batch in texts.encode():
        _add(batch.tokens, batch.lengths, ~np.isin(batch.hashes, hashes), train)


def _pack_chosen(texts: _Texts, folder: Path, tokenizer: Any, train: TokenWriter, held_out: TokenWriter) -> None:
    """Pack a text by way of a scratch folder with all of it: which documents are held out is known when all are counted."""
    try:
        _split(folder, *_pack_all(texts, folder, tokenizer), train, held_out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is swept: it lies beside the corpus


def _pack_all(texts: _Texts, folder: Path, tokenizer: Any) -> tuple[Rows, Flags]:
    """Pack a text without splitting it; return the length of each document, and which ones to hold out."""
    hashes, lengths = [], []
    with TokenWriter(folder, tokenizer) as everything:
        for batch in texts.encode():
            hashes.append(batch.hashes)
            lengths.append(batch.lengths)
            everything.add(batch.tokens, batch.lengths)
    if everything.num_documents == 0:
        require_both_parts(0, 0, whose=texts.whose)
    sizes = _joined(lengths, np.int64)
    return sizes, choose_held_out(_joined(hashes, np.uint64), sizes, in_tokens=texts.in_tokens, whose=texts.whose)


def _split(folder: Path, sizes: Rows, is_held_out: Flags, train: TokenWriter, held_out: TokenWriter) -> None:
    """Copy packed documents into the two parts; when it returns, no file is mapped, so NFS can remove the folder."""
    tokens, ends = TokenFile(folder).tokens, np.cumsum(sizes)
    for first in range(0, len(sizes), _CHUNK):
        here = slice(first, first + _CHUNK)
        row = tokens[ends[first] - sizes[first] : ends[here][-1]]
        _add(row, sizes[here], is_held_out[here], held_out)
        _add(row, sizes[here], ~is_held_out[here], train)


def _add(tokens: npt.NDArray[Any], lengths: Rows, is_wanted: Flags, writer: TokenWriter) -> None:
    """Append the wanted ones of documents that stand in a row."""
    writer.add(tokens[np.repeat(is_wanted, lengths)], lengths[is_wanted])
