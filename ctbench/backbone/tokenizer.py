"""A checkpoint's configuration and tokenizer: loaded without its weights, and refused where they do not fit together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctbench.backbone.checkpoint import USUAL_TOKENS, find_checkpoint, require_tokenizer
from ctbench.errors import BadConfig, BadData, first_line


def load_tokenizer(name: str, *, online: bool = False) -> Any:
    """Load the tokenizer of a checkpoint alone, without its weights.

    Raises:
        BadConfig: no such checkpoint.
        BadData: the tokenizer is missing, broken, or does not fit the configured embeddings.
    """
    folder = find_checkpoint(name, online=online)
    if (folder / "backbone.json").is_file():
        return load_saved_tokenizer(folder)
    with quiet():
        tokenizer = read_tokenizer(folder, name)
        require_fit(tokenizer, num_rows(read_config(folder, name)), name)
    return tokenizer


def load_saved_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of what `save_backbone` wrote.

    Raises:
        BadData: a file is missing or broken.
    """
    from transformers import PreTrainedTokenizerFast

    try:
        about = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))
        tokenizer_file = str(folder / "tokenizer.json")
        return PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, **about["special_tokens"])
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise BadData(f"backbone folder '{folder.name}' is broken ({first_line(error)}); remove it") from None


def read_tokenizer(folder: Path, name: str) -> Any:
    """Load the tokenizer in a folder, with the usual special tokens where it leaves them open.

    Raises:
        BadData: it is missing or broken, or knows no word.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    require_tokenizer(folder, name)
    try:
        if (folder / "tokenizer.json").is_file():
            # AutoTokenizer rebuilds some families' tokenizers (qwen2) and then gives other ids than the file says.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions
        reason = first_line(error)
        raise BadData(f"the tokenizer of model '{name}' cannot be read: {reason}; it needs a tokenizer.json") from None
    if not tokenizer.is_fast:
        raise BadData(f"the tokenizer of model '{name}' has no fast form; save it with a tokenizer.json")
    vocabulary = tokenizer.get_vocab()
    if not vocabulary.keys() - set(tokenizer.all_special_tokens):
        raise BadData(
            f"the tokenizer of model '{name}' knows no word: its vocabulary holds nothing but {len(vocabulary)} special "
            "tokens; put its tokenizer.json into the folder"
        )
    own_end = tokenizer.eos_token
    for attribute, usual in USUAL_TOKENS.items():
        known = [token for token in usual if token in vocabulary]
        if attribute == "sep_token" and own_end is not None:
            continue  # a decoder ends documents as it was trained to, whatever else its vocabulary holds
        if getattr(tokenizer, attribute) is None and known:
            setattr(tokenizer, attribute, known[0])
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is always masked out, so any token serves
    return tokenizer


def num_rows(config: Any) -> int | None:
    """Return how many tokens the configuration has embeddings for, None where it does not say."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None


def require_fit(tokenizer: Any, num_rows: int | None, name: str) -> None:
    """Refuse a tokenizer that gives ids beyond the embedding table: it belongs to another model, or has grown."""
    vocabulary = tokenizer.get_vocab()
    last = max(vocabulary, key=vocabulary.__getitem__)
    if num_rows is not None and vocabulary[last] >= num_rows:
        raise BadData(
            f"the tokenizer of model '{name}' does not fit its embeddings: the token '{last}' has number "
            f"{vocabulary[last]}, and the table has {num_rows} rows; use the tokenizer that the model was trained with"
        )


def read_config(folder: Path, name: str) -> Any:
    """Load the configuration in a folder, running no code that comes with it; raises BadConfig."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of the library, and of many kinds where a value is not what its family wants
        reason = first_line(error)
        raise BadConfig(f"the configuration of model '{name}' cannot be used: {reason}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load reports and progress bars off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def require_token(tokenizer: Any, kind: str, name: str) -> int:
    """Return the id of a special token.

    Args:
        tokenizer: a fast tokenizer.
        kind: such as "mask_token".
        name: of the model, for messages.

    Raises:
        BadConfig: the tokenizer has none.
    """
    value = getattr(tokenizer, f"{kind}_id")
    if value is None:
        raise BadConfig(f"the tokenizer of '{name}' has no {kind}; add one to it")
    return int(value)
