"""Packed text: documents as token ids in one flat, memory-mapped file, and its view as rows of equal length."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctbench.data.encode import encode_documents, is_wide
from ctbench.errors import BadData
from ctbench.machine.files import whole_folder

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
        may_be_empty: whether a text shorter than one row, which gives no rows, will do.

    Raises:
        BadData: the text is shorter than one row.
    """

    def __init__(self, file: TokenFile, length: int, *, cls_id: int | None = None, may_be_empty: bool = False) -> None:
        self.file = file
        self.length = length
        self.cls_id = cls_id
        self._width = length - (cls_id is not None)
        if len(self) == 0 and not may_be_empty:
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
    with whole_folder(folder) as scratch:
        with TokenWriter(scratch, tokenizer) as writer:
            for batch in encode_documents(texts, tokenizer):
                writer.add(batch.tokens, batch.lengths)
        if writer.num_documents == 0:
            raise BadData("no documents to tokenise")
    return TokenFile(folder)


class TokenWriter:
    """Appends documents to a token file."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.num_documents = 0
        self.num_tokens = 0
        self._folder = folder
        self._dtype = "<u4" if len(tokenizer) >= 2**16 or is_wide(tokenizer) else "<u2"
        self._tokens = (folder / "tokens.bin").open("wb")
        self._starts = (folder / "starts.bin").open("wb")

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._tokens.close()
        self._starts.close()
        meta = {"dtype": self._dtype, "num_tokens": self.num_tokens, "num_documents": self.num_documents}
        (self._folder / "meta.json").write_text(json.dumps(meta))

    def add(self, tokens: npt.NDArray[Any], lengths: Rows) -> None:
        """Append documents that stand in a row.

        Args:
            tokens: [num_tokens].
            lengths: of each document, [num_documents].
        """
        starts = self.num_tokens + np.cumsum(lengths) - lengths
        self._starts.write(starts.astype("<i8").tobytes())
        self._tokens.write(tokens.astype(self._dtype).tobytes())
        self.num_tokens += len(tokens)
        self.num_documents += len(lengths)
