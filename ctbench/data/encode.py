"""Documents as token ids: encoding in batches, and what a tokenizer is named after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctbench.errors import BadData, first_line

_BATCH_CHARACTERS = 500_000
_BATCH_DOCUMENTS = 4096


@dataclass(frozen=True, kw_only=True)
class EncodedBatch:
    """Some documents in a row; those without a token are left out.

    Attributes:
        tokens: all ids, ends of documents included, [num_tokens].
        lengths: tokens of each document, [num_documents] int64.
        hashes: hash of each document's text, [num_documents] uint64; copies have the same.
    """

    tokens: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]


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


def is_wide(tokenizer: Any) -> bool:
    """Tell whether ids of a tokenizer need more than 16 bits although it has fewer than 2**16 tokens."""
    highest: int = max(tokenizer.get_vocab().values())
    return len(tokenizer) < 2**16 <= highest


def end_of_document(tokenizer: Any) -> list[int]:
    """Return the token behind a document: the separator, else the end of a sequence, else none."""
    return [token for token in (tokenizer.sep_token_id, tokenizer.eos_token_id) if token is not None][:1]


def filler(tokenizer: Any) -> int:
    """Return the token that stands for a text of which a tokenizer leaves none."""
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, 0)
    return int(next(token for token in ends if token is not None))


def separates_pairs(backend: Any) -> bool:
    """Tell whether a tokenizer's fast backend puts a special token between the two texts of a pair."""
    try:
        sides = backend.encode("a", "a").sequence_ids
    except Exception:  # of the tokenizers library, where an unknown word has no token
        sides = []
    if not {0, 1} <= set(sides):  # it has no token for the letter, so the number of special tokens has to do
        return bool(backend.num_special_tokens_to_add(True) > backend.num_special_tokens_to_add(False))
    return None in sides[sides.index(0) : sides.index(1)]


def encode_documents(texts: Iterable[str], tokenizer: Any) -> Iterator[EncodedBatch]:
    """Tokenise documents, each with its end behind it; memory does not grow with the text.

    Args:
        texts: documents.
        tokenizer: a fast tokenizer of transformers.

    Raises:
        BadData: the tokenizer cannot encode a text.
    """
    backend, end = plain_tokenizer(tokenizer), end_of_document(tokenizer)
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size > _BATCH_CHARACTERS or len(waiting) >= _BATCH_DOCUMENTS:
            yield _encode(waiting, backend, end)
            waiting, size = [], 0
    if waiting:
        yield _encode(waiting, backend, end)


def _encode(texts: list[str], backend: Any, end: list[int]) -> EncodedBatch:
    encoded = encode_batch(backend, texts, add_special_tokens=False)
    kept = [
        (encoding.ids + end, content_hash(text)) for encoding, text in zip(encoded, texts, strict=True) if encoding.ids
    ]
    return EncodedBatch(
        tokens=np.array([token for ids, _ in kept for token in ids], dtype=np.uint32),
        lengths=np.array([len(ids) for ids, _ in kept], dtype=np.int64),
        hashes=np.array([content for _, content in kept], dtype=np.uint64),
    )


def encode_batch(backend: Any, texts: Any, **options: Any) -> Any:
    """Return the encodings of texts.

    Raises:
        BadData: the tokenizer fails, for example at a word that it does not know and has no token for.
    """
    try:
        return backend.encode_batch_fast(texts, **options)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise BadData(f"the tokenizer of the model cannot encode a text: {first_line(error)}") from None


def content_hash(text: str) -> int:
    """Return 64 bits that say what a document is."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
