"""Tokenised text on disk: documents packed into one flat, memory-mapped file that all runs share.

A domain's held-out text never enters its training text: it is a declared source, whose documents are dropped from the
training text, or the 2 % of the documents with the smallest hash (of little text more, up to 20 %), a choice that does
not depend on their order. Copies of a document in the text of another domain are trained on there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ctbench.data.schema import Domain, Stream
from ctbench.data.sources import fingerprint, read_texts
from ctbench.errors import BadData, RunFailed

PACKING_VERSION = 2
"""Raised whenever the same text and tokenizer give another file, together with `ctbench.graph.SCHEMA`: nodes are named
after the raw text."""

HELD_OUT_FRACTION = 0.02
MOST_HELD_OUT_FRACTION = 0.2
ENOUGH_HELD_OUT_TOKENS = 512
"""Where 2 % of the documents have fewer, the share is doubled, up to a fifth: the LM loss needs some blocks."""
_BATCH_CHARACTERS = 500_000
_BATCH_DOCUMENTS = 4096

Rows = npt.NDArray[np.int64]


class TokenFile:
    """Tokens of many documents in a row, memory-mapped.

    Attributes:
        tokens: all ids, [num_tokens], uint16 or uint32.
        starts: place of the first token of each document, [num_documents].
    """

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self.folder = folder
        self.tokens: npt.NDArray[Any] = np.memmap(folder / "tokens.bin", dtype=meta["dtype"], mode="r")
        self.starts: Rows = np.memmap(folder / "starts.bin", dtype="<i8", mode="r")

    @property
    def num_tokens(self) -> int:
        """Number of tokens, ends of documents included."""
        return len(self.tokens)

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return len(self.starts)


class Blocks:
    """View of a token file as rows of equal length; what is left at the end is dropped.

    Args:
        file: packed text.
        length: tokens per row, T.
        cls_id: token to begin each row with (encoders); None to begin with text (decoders).

    Raises:
        BadData: the text is shorter than one row.
    """

    def __init__(self, file: TokenFile, length: int, *, cls_id: int | None = None) -> None:
        self.file = file
        self.length = length
        self.cls_id = cls_id
        self._width = length - (cls_id is not None)
        if len(self) == 0:
            raise BadData(
                f"the text has {file.num_tokens} tokens, a block of length {length} needs {self._width}: "
                "add text or lower `length`"
            )

    def __len__(self) -> int:
        return self.file.num_tokens // self._width

    def __getitem__(self, rows: Rows) -> Rows:
        """Return the rows asked for, [n, T] int64."""
        places = np.asarray(rows, dtype=np.int64)[:, None] * self._width + np.arange(self._width)
        body: Rows = self.file.tokens[places].astype(np.int64)
        if self.cls_id is None:
            return body
        return np.concatenate([np.full((len(body), 1), self.cls_id), body], axis=1)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Packed text of a domain, or of the general text."""

    train: TokenFile
    held_out: TokenFile


def plain_tokenizer(tokenizer: Any) -> Any:
    """Return a copy of a tokenizer's fast backend that neither cuts nor pads, whatever its file says."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the SHA-256 of what a tokenizer does to text: its tokenizer.json without truncation and padding."""
    return hashlib.sha256(plain_tokenizer(tokenizer).to_str().encode()).hexdigest()


def pack(texts: Iterable[str], tokenizer: Any, folder: Path) -> TokenFile:
    """Tokenise documents into a new folder, each with an end (separator or end-of-sequence token) behind it.

    The folder appears whole or not at all. Memory does not grow with the text.

    Args:
        texts: documents.
        tokenizer: a fast tokenizer of transformers.
        folder: must not exist.

    Raises:
        BadData: there are no documents.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        with _Writer(temporary, tokenizer) as writer:
            for text in texts:
                writer.add(text)
        if writer.num_documents == 0:
            raise BadData("no documents to tokenise")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return TokenFile(folder)


def _end_of_document(tokenizer: Any) -> list[int]:
    """Return the token behind a document: the separator, else the end of a sequence, else none."""
    return [token for token in (tokenizer.sep_token_id, tokenizer.eos_token_id) if token is not None][:1]


class _Writer:
    """Appends documents to a token file."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.num_documents = 0
        self._num_tokens = 0
        self._folder = folder
        self._backend = plain_tokenizer(tokenizer)
        self._end = _end_of_document(tokenizer)
        self._dtype = "<u2" if len(tokenizer) < 2**16 else "<u4"
        self._tokens = (folder / "tokens.bin").open("wb")
        self._starts = (folder / "starts.bin").open("wb")
        self._waiting: list[str] = []
        self._size = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._tokens.close()
        self._starts.close()
        meta = {"dtype": self._dtype, "num_tokens": self._num_tokens, "num_documents": self.num_documents}
        (self._folder / "meta.json").write_text(json.dumps(meta))

    def add(self, text: str) -> None:
        self._waiting.append(text)
        self._size += len(text)
        if self._size > _BATCH_CHARACTERS or len(self._waiting) >= _BATCH_DOCUMENTS:
            self._flush()

    def _flush(self) -> None:
        encoded = self._backend.encode_batch_fast(self._waiting, add_special_tokens=False)
        documents = [encoding.ids + self._end for encoding in encoded if encoding.ids]
        self._waiting, self._size = [], 0
        if not documents:
            return
        lengths = np.array([len(ids) for ids in documents])
        starts = self._num_tokens + np.cumsum(lengths) - lengths
        self._starts.write(starts.astype("<i8").tobytes())
        self._tokens.write(np.array([token for ids in documents for token in ids], dtype=self._dtype).tobytes())
        self._num_tokens += int(lengths.sum())
        self.num_documents += len(documents)


def corpus(stream: Stream, domain: Domain | None, *, tokenizer: Any, cache: Path) -> Corpus:
    """Return a domain's text (or the general text) packed; tokenised once and shared by all runs and processes.

    Args:
        stream: the stream.
        domain: a domain of the stream, None for general text.
        tokenizer: a fast tokenizer of transformers.
        cache: folder for packed text.

    Raises:
        BadData: the text cannot be read, or is too little to hold some of it out.
    """
    name = domain.name if domain else None
    source = domain.text if domain else stream.general
    if source is None:
        raise BadData(f"stream {stream.name} has no general text; add a table [general] with a text source")
    held_out = domain.held_out if domain else None
    whose = f"text of domain {name}" if name else "general text"
    parts = [fingerprint(stream, source, domain=name)]
    if held_out:
        parts.append(fingerprint(stream, held_out, domain=name, purpose="held_out"))
    about = [PACKING_VERSION, tokenizer_digest(tokenizer), _end_of_document(tokenizer), *parts]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    folder = cache / key
    if not _is_whole(folder):
        declared = (lambda: read_texts(stream, held_out, domain=name, purpose="held_out")) if held_out else None
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{key}.lock"):
                if not _is_whole(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    read = partial(read_texts, stream, source, domain=name)
                    _pack_corpus(read, declared, tokenizer, folder, whose=whose)
        except OSError as error:
            raise RunFailed(
                f"{whose} cannot be packed into the folder '{cache.name}' of CTBENCH_HOME: {error}"
            ) from error
    return Corpus(train=TokenFile(folder / "train"), held_out=TokenFile(folder / "held_out"))


def _is_whole(folder: Path) -> bool:
    """Tell whether both parts of a corpus are as long as they say they are."""
    try:
        for part in (folder / "train", folder / "held_out"):
            meta = json.loads((part / "meta.json").read_text())
            sizes = [(part / name).stat().st_size for name in ("tokens.bin", "starts.bin")]
            if sizes != [meta["num_tokens"] * np.dtype(meta["dtype"]).itemsize, meta["num_documents"] * 8]:
                return False
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return True


def _pack_corpus(
    read: Callable[[], Iterator[str]],
    read_held_out: Callable[[], Iterator[str]] | None,
    tokenizer: Any,
    folder: Path,
    *,
    whose: str,
) -> None:
    """Pack both parts of a corpus into `folder`, which appears whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        if read_held_out:
            num_train, num_held_out = _pack_declared(read(), read_held_out(), tokenizer, temporary)
        else:
            fraction = HELD_OUT_FRACTION
            num_train, num_held_out, smallest = _pack_by_hash(read(), int(fraction * 2**64), tokenizer, temporary)
            while _num_tokens(temporary / "held_out") < ENOUGH_HELD_OUT_TOKENS and fraction < MOST_HELD_OUT_FRACTION:
                fraction = min(2 * fraction, MOST_HELD_OUT_FRACTION)
                num_train, num_held_out, smallest = _pack_by_hash(read(), int(fraction * 2**64), tokenizer, temporary)
            if num_held_out == 0:  # few documents: hold out the one with the smallest hash
                num_train, num_held_out, _ = _pack_by_hash(read(), smallest + 1, tokenizer, temporary)
        if num_train == 0 or num_held_out == 0:
            raise BadData(
                f"{whose}: {num_train} documents to train on and {num_held_out} held out; wanted at least one of each "
                "that differ: add text, declare a held_out source, or choose smaller documents"
            )
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _pack_declared(texts: Iterable[str], held_out: Iterable[str], tokenizer: Any, folder: Path) -> tuple[int, int]:
    """Pack declared held-out text and the training text without it; return the numbers of documents."""
    reserved: set[int] = set()
    with _Writer(folder / "held_out", tokenizer) as kept:
        for text in held_out:
            reserved.add(_content_hash(text))
            kept.add(text)
    with _Writer(folder / "train", tokenizer) as train:
        for text in texts:
            if _content_hash(text) not in reserved:
                train.add(text)
    return train.num_documents, kept.num_documents


def _pack_by_hash(texts: Iterable[str], threshold: int, tokenizer: Any, folder: Path) -> tuple[int, int, int]:
    """Hold out the documents whose hash is below `threshold`; return the numbers of documents and the smallest hash."""
    smallest = 2**64
    with _Writer(folder / "train", tokenizer) as train, _Writer(folder / "held_out", tokenizer) as kept:
        for text in texts:
            content = _content_hash(text)
            smallest = min(smallest, content)
            (kept if content < threshold else train).add(text)
    return train.num_documents, kept.num_documents, smallest


def _num_tokens(folder: Path) -> int:
    return int(json.loads((folder / "meta.json").read_text())["num_tokens"])


def _content_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
