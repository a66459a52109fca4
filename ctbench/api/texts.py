"""Names with commas, and the help texts in docstrings: what the command line needs of the API before it knows a job."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path

from ctbench.errors import BadConfig

Names = str | Sequence[str]
"""Several names: a list of them, or one text with commas."""


def argument_texts(doc: str | None) -> dict[str, str]:
    r"""Return what the section Args of a docstring says about each argument, as one line each.

    Examples:
        >>> argument_texts("Do it.\n\n    Args:\n        x: a number,\n            in [0, 1].\n\n    Returns: y")
        {'x': 'a number, in [0, 1].'}
    """
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(doc or ""), re.M | re.S)
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section[1] if section else "", re.M | re.S)
    return {name: " ".join(text.split()) for name, text in found}


def names(given: Names) -> tuple[str, ...]:
    """Return several names: of a list, or of a text with commas.

    Raises:
        BadConfig: a text without a name, such as that of an unset variable of a shell.

    Examples:
        >>> names("naive,replay"), names(["naive", "ewc,das"])
        (('naive', 'replay'), ('naive', 'ewc', 'das'))
    """
    texts = [given] if isinstance(given, str | Path) else given
    found = [[name.strip() for name in str(text).split(",") if name.strip()] for text in texts]
    if [] in found:
        raise BadConfig("a name is empty; give one, or leave the option out")
    return tuple(name for each in found for name in each)
