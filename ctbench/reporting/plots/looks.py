"""Colour, dash and marker of every method: the same in every picture and on the page, whatever else is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ctbench.reporting.entries import Entry


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colour, dash and marker of an entry in all plots."""

    colour: str
    dash: Any
    marker: str


COLOURS: Final = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#a3457f",
    "#4c4c4c",
    "#3f97cf",
    "#b8860b",
    "#c1272d",
    "#6a3fb5",
    "#7a5230",
    "#00808a",
    "#d6409f",
    "#557a1f",
    "#1f2f7a",
    "#8f1d4f",
    "#7d7d7d",
    "#ca6702",
    "#5a189a",
    "#3a5a40",
    "#9b2226",
    "#005f73",
    "#b5179e",
    "#8a8a00",
)
"""Each is legible on white; the style sheet of the page holds a lighter one of the same number for dark screens."""

_DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.6, 1.2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")

NUM_LOOKS: Final = len(COLOURS) * len(_DASHES) * len(_MARKERS)
"""Number of different looks."""

_FIRST: Final = (
    "naive",
    "replay",
    "hyperprompt",
    "hypermap",
    "ewc",
    "lwf",
    "das",
    "joint",
    "separate",
    "adapters",
    "lora",
    "prompts",
    "derpp",
    "averaging",
    "mer",
    "olora",
    "osf",
    "expand",
    "merge",
    "hat",
    "demix",
)
"""The methods that ctbench comes with have the first looks, so no two of them share a colour; new ones come last."""


def look(index: int) -> Look:
    """Return a look by number; the three cycles have coprime lengths, so that NUM_LOOKS of them differ."""
    colour, dash = COLOURS[index % len(COLOURS)], _DASHES[index % len(_DASHES)]
    return Look(colour=colour, dash=dash, marker=_MARKERS[index % len(_MARKERS)])


def method_number(method: str) -> int:
    """Return the number of the look of a method, which depends on its name alone, in [0, NUM_LOOKS)."""
    if method in _FIRST:
        return _FIRST.index(method)
    digest = hashlib.blake2b(method.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % NUM_LOOKS


def looks_of(entries: Sequence[Entry]) -> list[Look]:
    """Return the look of each entry: a method has one; its variants keep the colour and change dash and marker."""
    variants: dict[str, list[str]] = {}
    for label, name in sorted((entry.label, entry.name) for entry in entries if entry.label != entry.name):
        variants.setdefault(name, []).append(label)
    steps = [0 if e.label == e.name else 1 + variants[e.name].index(e.label) for e in entries]
    return [look(method_number(e.name) + len(COLOURS) * step) for e, step in zip(entries, steps, strict=True)]
