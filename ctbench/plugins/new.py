"""Write a method, a stream or a study to start from; what is written works as it is."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import keyword
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

import ctbench
from ctbench.data.knobs import Language
from ctbench.data.synthetic.language import domain_names, language_task, language_texts
from ctbench.errors import BadConfig, unwritable
from ctbench.machine.files import read_path, write_whole
from ctbench.plugins.find import find_plugins

_EXAMPLE = Language(
    num_domains=2,
    num_classes=3,
    words_per_class=8,
    num_documents=300,
    num_general_documents=600,
    num_train=60,
    num_test=60,
)


def new_method(name: str, folder: Path) -> list[Path]:
    """Write `NAME.py` into a folder and return its path.

    Raises:
        BadConfig: a name that cannot be used or is taken, or a file that is there already.
    """
    check_name(name)
    _check_module(name)
    return _write({folder / f"{name}.py": method_text(name)})


def new_package(name: str, folder: Path) -> list[Path]:
    """Write a package with a method, its entry point and a test into a new folder `ctbench-NAME`; return the paths.

    Raises:
        BadConfig: a name that cannot be used or is taken, or a folder that is there already.
    """
    check_name(name)
    root = folder / f"ctbench-{name.replace('_', '-')}"
    package = f"ctbench_{name}"
    _check_module(package)
    if read_path(root).exists():
        raise BadConfig(f"'{root.name}' is there already; choose another name or remove it")
    return _write(
        {
            root / "pyproject.toml": _template("package.toml").replace("ctbench-NAME", root.name).replace("NAME", name),
            root / package / "__init__.py": '"""Methods for ctbench: every public module here is one."""\n',
            root / package / f"{name}.py": method_text(name),
            root / "tests" / f"test_{name}.py": _template("package_test.py").replace("NAME", name),
        }
    )


def new_stream(name: str, folder: Path) -> list[Path]:
    """Write `NAME.toml` with example data into a folder and return the paths.

    Raises:
        BadConfig: a name that cannot be used or is taken, or a file that is there already.
    """
    check_name(name)
    data = folder / f"{name}-data"
    if read_path(data).exists():
        raise BadConfig(f"'{data.name}' is there already; choose another name or remove it")
    return _write({folder / f"{name}.toml": _template("stream.toml").replace("NAME", name)} | _example_data(data))


def new_study(name: str, folder: Path) -> list[Path]:
    """Write `NAME.toml`, a study, into a folder and return its path.

    Raises:
        BadConfig: a name that cannot be used or is taken, or a file that is there already.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise BadConfig(f"'{name}' cannot be the name of a study; letters, digits, dot, dash and underscore only")
    return _write(
        {
            folder / f"{name.removesuffix('.toml')}.toml": _template("study.toml").replace(
                "NAME", name.removesuffix(".toml")
            )
        }
    )


def check_name(name: str) -> None:
    """Refuse a name that no method or stream can have, or that one has.

    Raises:
        BadConfig: the name, and what would be allowed.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise BadConfig(
            f"'{name}' cannot be a name; lower-case letters, digits and underscores, a letter first, no word of Python"
        )
    for kind in ("method", "stream"):
        if name in find_plugins(kind):
            raise BadConfig(f"there is a {kind} '{name}' already; choose another name (ctbench ls {kind}s)")


def method_text(name: str) -> str:
    """Return the source of the method to start from under another name."""
    return _template("method.py").replace("Mine", _class_name(name))


def _check_module(name: str) -> None:
    """Refuse a file that would hide a module, or whose class would hide a name it imports."""
    if _class_name(name) in ctbench.__all__ or importlib.util.find_spec(name) is not None:
        raise BadConfig(f"'{name}' is the name of something that Python finds already; choose another name")


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _example_data(root: Path) -> dict[Path, str]:
    found = {root / "general.jsonl": _lines({"text": text} for text in language_texts(_EXAMPLE, "domain", None))}
    for name, domain in zip(("first", "second"), domain_names(_EXAMPLE, "domain"), strict=True):
        texts = language_texts(_EXAMPLE, "domain", domain)
        found[root / name / "text.jsonl"] = _lines({"text": text} for text in texts)
        for split in ("train", "test"):
            pairs = language_task(_EXAMPLE, "domain", domain, split)
            found[root / name / f"{split}.jsonl"] = _lines({"text": text, "label": label} for text, label in pairs)
    return found


def _lines(records: Iterable[Mapping[str, str]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _template(name: str) -> str:
    return (files("ctbench.plugins") / "templates" / name).read_text(encoding="utf-8")


def _write(contents: Mapping[Path, str]) -> list[Path]:
    """Write all files, or none if one of them is there already."""
    for path in contents:
        if read_path(path).exists():
            raise BadConfig(f"'{path.name}' is there already; choose another name or remove it")
    made: list[Path] = []
    try:
        for path, text in contents.items():
            missing = [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            made += reversed(missing)
            write_whole(path, text)
            made.append(path)
    except OSError as error:
        for each in reversed(made):
            with contextlib.suppress(OSError):
                each.rmdir() if each.is_dir() else each.unlink()
        raise BadConfig(unwritable(f"'{path}'", error, "go to another folder")) from error
    return list(contents)
