"""Find and hash a checkpoint without torch or transformers, so that plans and keys come quickly."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from ctbench.data.pointers import pointer_store
from ctbench.errors import BadConfig, BadData, did_you_mean, first_line
from ctbench.machine.files import read_path

MADE: Final[Mapping[str, tuple[Literal["mlm", "clm"], str]]] = {
    "tiny": ("mlm", "modernbert"),
    "tiny-causal": ("clm", "llama"),
    "tiny-64": ("mlm", "modernbert"),
    "tiny-256": ("mlm", "modernbert"),
}
"""The backbones that are made here, from a stream's general text: objective and family of each."""
MADE_WIDTHS: Final[Mapping[str, int]] = {"tiny": 128, "tiny-causal": 128, "tiny-64": 64, "tiny-256": 256}
"""Their widths; they have two layers."""
MADE_VOCABULARY: Final = 1_000
"""About the size of their vocabulary."""
_WANTED = ["config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model", "*.safetensors*"]
USUAL_TOKENS = {
    "mask_token": ("[MASK]", "<mask>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "eos_token": ("</s>", "<|endoftext|>"),
}
"""Special tokens by their names in transformers; of those that a checkpoint leaves open, the first that exists."""
_SPARE_ROWS = b"random tokens are those of the tokenizer"
"""Enters the digest of a checkpoint whose embedding table has more rows than its tokenizer has tokens."""
_OWN_END = b"documents end in the tokenizer's own end of a sequence"
"""Enters that of one which names an end of a sequence and no separator, and whose vocabulary holds a usual one."""
_WIDE = b"ids of 16 bits and more are packed whole"
"""Enters that of one with fewer than 2**16 tokens of which some have ids from there on, which wrapped in packed text."""
_VOLATILE = {"transformers_version", "_name_or_path", "name_or_path", "torch_dtype", "dtype", "use_cache"}


def find_checkpoint(name: str, *, revision: str | None = None, online: bool = False) -> Path:
    """Return the folder of a checkpoint: `name` itself, or the local copy of a Hugging Face id.

    Args:
        name: a folder, or an id like "org/model" or "org/model@revision".
        revision: branch, tag or commit of an id; the same as "@revision".
        online: whether the network may be used; otherwise only what was downloaded before.

    Raises:
        BadConfig: neither a folder with a config.json nor an id that can be had.
    """
    folder = read_path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadConfig(f"model folder '{name}' holds no config.json; name the folder of a Hugging Face checkpoint")
        return folder
    identifier, _, after = name.partition("@")
    revision = after or revision
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", identifier):
        raise BadConfig(f"no model '{name}': not an existing folder, nor a Hugging Face id like 'org/model@revision'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        found = snapshot_download(
            identifier, revision=revision, local_files_only=not online, allow_patterns=_WANTED, tqdm_class=None
        )
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        advice = "check the id and the network" if online else "add --online to download it, or name a local folder"
        near = "" if "/" in name else did_you_mean(name, MADE)
        meant = f"{near.removeprefix('; ')} " if near.endswith("?") else ""
        raise BadConfig(
            f"no model '{name}': {meant}not an existing folder, and not to be had from the Hugging Face "
            f"{'hub' if online else 'cache'} ({type(error).__name__}); {advice}"
        ) from None
    if not (Path(found) / "config.json").is_file():
        raise BadConfig(f"no model '{name}': its local copy is incomplete; add --online to complete it")
    return Path(found)


def backbone_digest(name: str, *, revision: str | None = None, online: bool = False) -> str:
    """Return the SHA-256 over weights, configuration and tokenizer of a checkpoint, its special tokens included.

    File names, paths and keys of the configuration that do not change a number do not enter.

    Raises:
        BadConfig: there is no such checkpoint, or its configuration cannot be read.
        BadData: it has no weights.
    """
    folder = find_checkpoint(name, revision=revision, online=online)
    for path in folder.glob("*.json"):
        require_file(path, name)
    total = hashlib.sha256()
    kept = {key: value for key, value in _config(folder, name).items() if key not in _VOLATILE}
    total.update(json.dumps(kept, sort_keys=True).encode())
    if unusual := _unusual_tokens(folder):
        total.update(json.dumps(unusual, sort_keys=True).encode())
    for marker in _markers(folder, kept):
        total.update(marker)
    for path in [*_tokenizer_files(folder), *_weight_files(folder)]:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def model_type(name: str, *, online: bool = False) -> str:
    """Return the family of a model, as its configuration names it; empty where it names none.

    Raises:
        BadConfig: there is no such checkpoint, or its configuration cannot be read.
    """
    if name in MADE:
        return MADE[name][1]
    return str(_config(find_checkpoint(name, online=online), name).get("model_type", ""))


def takes_segments(config: Any) -> bool:
    """Tell whether a configuration asks for embeddings that tell the two texts of a pair apart."""
    return int(getattr(config, "type_vocab_size", None) or 0) > 1


def weight_bytes(name: str) -> int:
    """Return the size of a checkpoint's weights on the disk.

    Raises:
        CTBenchError: there is no such checkpoint here, or it has no weights.
    """
    return sum(path.stat().st_size for path in _weight_files(find_checkpoint(name)))


def dimensions(name: str) -> tuple[int, int, int]:
    """Return (layers, width, vocabulary) as the configuration of a model tells them, 0 for what it does not tell.

    Raises:
        CTBenchError: there is no such checkpoint here, or its configuration cannot be read.
    """
    if name in MADE:
        return 2, MADE_WIDTHS[name], MADE_VOCABULARY
    config = _config(find_checkpoint(name), name)
    names = (("num_hidden_layers", "n_layer", "n_layers"), ("hidden_size", "n_embd", "dim", "d_model"), ("vocab_size",))
    layers, width, vocabulary = (next((config[key] for key in each if config.get(key)), 0) for each in names)
    return int(layers), int(width), int(vocabulary)


def _config(folder: Path, name: str) -> dict[str, Any]:
    require_file(folder / "config.json", name)
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"config.json of model '{name}' is no JSON: {first_line(error)}") from None
    if not isinstance(config, dict):
        raise BadConfig(f"config.json of model '{name}' is no JSON object")
    return config


def require_file(path: Path, name: str) -> None:
    """Refuse a file of a checkpoint that is a pipe, cannot be read, or is a pointer of a large-file store.

    Args:
        path: the file.
        name: the model, for messages.

    Raises:
        BadData: if it is one.
    """
    try:
        store = pointer_store(path) if path.is_file() else None
    except OSError as error:
        raise BadData(f"{path.name} of model '{name}' cannot be read: {error.strerror or error}") from None
    if store is None:
        raise BadData(f"{path.name} of model '{name}' is not a file; put the file itself there")
    if store:
        raise BadData(f"{path.name} of model '{name}' is a pointer of {store} and not the file itself; fetch the file")


def require_tokenizer(folder: Path, name: str) -> None:
    """Refuse a checkpoint without the vocabulary of a tokenizer, which the library would make up.

    Raises:
        BadData: no tokenizer.json, and no vocabulary of another kind.
    """
    files = _tokenizer_files(folder)
    for path in [*folder.glob("*.json"), *files]:
        require_file(path, name)
    names = {path.name for path in files}
    if not names or names == {"merges.txt"}:
        raise BadData(f"the folder of model '{name}' has no tokenizer (tokenizer.json is missing); save it there")
    if names == {"vocab.json"}:
        raise BadData(f"the folder of model '{name}' has half a tokenizer: merges.txt is missing beside vocab.json")


def _markers(folder: Path, config: dict[str, Any]) -> Iterator[bytes]:
    """Yield what enters the digest of a checkpoint that is read otherwise than when the first results were made."""
    try:
        told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        vocabulary, added = told["model"]["vocab"], told.get("added_tokens", ())
        pairs = (
            vocabulary.items() if isinstance(vocabulary, dict) else ((row[0], i) for i, row in enumerate(vocabulary))
        )
        tokens = [*pairs, *((token["content"], token["id"]) for token in added)]
        ids, words = {int(number) for _, number in tokens}, {word for word, _ in tokens}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # not there, or for the tokenizer's loading to refuse
    rows, named = config.get("vocab_size"), _named_tokens(folder)
    if isinstance(rows, int) and len(ids) < rows:
        yield _SPARE_ROWS
    usual = next((token for token in USUAL_TOKENS["sep_token"] if token in words), None)
    if usual is not None and "sep_token" not in named and named.get("eos_token", usual) != usual:
        yield _OWN_END
    if len(words) < 2**16 <= max(ids, default=0):
        yield _WIDE


def _unusual_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens that a checkpoint names beside its tokenizer.json, but for those it would get anyway."""
    named = _named_tokens(folder).items()
    return {key: token for key, token in named if token != USUAL_TOKENS.get(key, ("",))[0]}


def _named_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens that a checkpoint names beside its tokenizer.json."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            told = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # not there, or for the tokenizer's loading to refuse
        for key, value in told.items() if isinstance(told, dict) else ():
            token = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(token, str):
                found[key] = token
    return found


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadData(
            f"model folder '{folder.name}' holds no *.safetensors weights (pickled *.bin files are not read); "
            "convert them with save_pretrained"
        )
    for path in files:
        require_file(path, folder.name)
    return files


def _tokenizer_files(folder: Path) -> list[Path]:
    names = ("tokenizer.json",) if (folder / "tokenizer.json").exists() else ("vocab.json", "merges.txt", "vocab.txt")
    found = [folder / name for name in names if (folder / name).exists()]
    return found or sorted(folder.glob("*.model"))
