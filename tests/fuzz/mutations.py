"""Strategies that several fuzz tests share, and what every one of them asks for."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ctbench.errors import CTBenchError
from ctbench.machine.files import is_scratch

CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=6)), max_size=3)
"""Places to change, as (where, bytes to remove, bytes to put there); often none."""

HANG_SECONDS = 60
"""Time after which a case counts as one that hangs."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.text(max_size=6),
    st.sampled_from(
        [10**30, 10**400, -(10**5000), 1e308, "\0", "\u202e", "\ud800", "x" * 5000, [], {}, [[]], {"": None}, [[[[1]]]]]
    ),
)
"""A value of JSON that is seldom the right one."""

EDITS = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["remove", "replace", "double", "add"]), ODD), max_size=3
)
"""Places in a tree of JSON, and what happens there; often nothing."""

COUNTS: dict[str, Counter[str]] = {}
"""By test: how many cases there were, and how many of them ended in a traceback, a hang or a partial file."""


class Hang(BaseException):
    """A case took too long."""


def mutate(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Return the bytes with some of them removed, and others put there."""
    for where, count, put in changes:
        place = int(where * len(content))
        content = content[:place] + put + content[place + count :]
    return content


def edit(tree: Any, edits: list[tuple[int, str, Any]]) -> Any:
    """Return a tree of JSON with some of its nodes removed, replaced, doubled or added to."""
    tree = copy.deepcopy(tree)
    for where, what, value in edits:
        places = list(_places(tree))
        if not places:
            continue
        parent, key = places[where % len(places)]
        if what == "remove":
            del parent[key]
        elif what == "replace":
            parent[key] = copy.deepcopy(value)  # or later cases would change what they are drawn from
        elif what == "double" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif isinstance(parent, dict):
            parent[f"new{where}"] = copy.deepcopy(parent[key])
    return tree


def _places(tree: Any) -> Any:
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def dump(tree: Any) -> bytes:
    """Return a tree as JSON, whatever it holds; Python's own limit of digits does not count here."""
    import sys

    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(tree).encode()
    finally:
        sys.set_int_max_str_digits(limit)


def outcome(work: Callable[[], Any], *, folder: Path | None = None) -> Any:
    """Return what `work` returns, or the one line of its refusal; any other exception is a failure of the test.

    Args:
        work: one case.
        folder: where no partial file may be left.
    """
    counts = COUNTS.setdefault(os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0].rpartition("/")[2], Counter())
    counts["cases"] += 1
    signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        found = work()
    except CTBenchError as error:
        message = str(error)
        counts["tracebacks"] += not message.strip() or "\n" in message or "Traceback" in message
        assert message.strip()
        assert "\n" not in message
        assert "Traceback" not in message
        found = error
    except Hang:
        counts["hangs"] += 1
        raise
    except Exception:
        counts["tracebacks"] += 1
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    left = [] if folder is None else [path for path in folder.rglob("*") if is_scratch(path)]
    counts["partial files"] += bool(left)
    assert not left
    return found


def _hang(*_: object) -> None:
    raise Hang
