"""Labels of the rows of a table: the method's name, and whatever else tells two rows apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ctbench.errors import listing
from ctbench.results.cells import untuned
from ctbench.results.consistency import MOST_NAMED
from ctbench.results.schema import Result

UNREGISTERED_MARK = "†"
WAS_SET = " was set"
UNREGISTERED = f"{UNREGISTERED_MARK} not a registered method, loaded from a file"


def labels_of(results: Sequence[Result]) -> list[str]:
    """Return a label for each entry: the name, changed settings, then other differences between equal labels."""
    labels = [with_details(result.method.name, _set_by_hand(result)) for result in results]
    for details in (_all_settings, _version, _digest):
        counts = Counter(labels)
        twins = {label: [r for r, other in zip(results, labels, strict=True) if other == label] for label in counts}
        labels = [
            with_details(label, details(result, twins[label])) if counts[label] > 1 else label
            for label, result in zip(labels, results, strict=True)
        ]
    marks = ["" if result.method.registered else " " + UNREGISTERED_MARK for result in results]
    return [label + mark for label, mark in zip(labels, marks, strict=True)]


def in_brief(reasons: Sequence[str]) -> list[str]:
    """Return reasons with all settings that were changed as one.

    Examples:
        >>> in_brief(["base.lr was set", "stream mine is not registered", "pretrain.lr was set"])
        ['base.lr and pretrain.lr were set', 'stream mine is not registered']
    """
    keys = [reason.removesuffix(WAS_SET) for reason in reasons if reason.endswith(WAS_SET)]
    if len(keys) < 2:
        return list(reasons)
    others = [reason for reason in reasons if not reason.endswith(WAS_SET)]
    return [f"{', '.join(keys[:-1])} and {keys[-1]} were set", *others]


def without_mark(label: str) -> str:
    """Return a label without the mark of methods that are not registered, which is hard to type.

    Examples:
        >>> without_mark("mine (x=1) † (schedule=wsd)")
        'mine (x=1) (schedule=wsd)'
    """
    return label.replace(f" {UNREGISTERED_MARK}", "")


def over_seeds(result: Result) -> str:
    """Return what a score of a result is a mean over: fine-tuning seeds, but for tasks on which nothing is fine-tuned."""
    num_seeds, num_of_base = len(result.seed_scores), len({cell.finetune_seed for cell in result.cells})
    alone = sorted(untuned(result), key=result.stream.domains.index)
    if len(alone) == result.num_tasks:
        return "without fine-tuning"
    details = [f"{num_of_base} of the untouched LM"] if num_of_base > num_seeds else []
    details += [f"without fine-tuning: {listing(alone, most=MOST_NAMED)}"] if alone else []
    return with_details(
        f"mean over {num_seeds} fine-tuning seeds" if num_seeds > 1 else "one fine-tuning seed", details
    )


def with_details(label: str, details: list[str]) -> str:
    """Return a label with details in brackets, if there are any."""
    return f"{label} ({', '.join(details)})" if details else label


def _set_by_hand(result: Result) -> list[str]:
    prefix = "method."
    return [f"{key.removeprefix(prefix)}={value}" for key, value in result.changed.items() if key.startswith(prefix)]


def _all_settings(result: Result, twins: list[Result]) -> list[str]:
    mine, others = result.method.settings, [twin.method.settings for twin in twins]
    return [f"{key}={value}" for key, value in sorted(mine.items()) if _differs(key, value, others)]


def _differs(key: str, value: Any, others: list[dict[str, Any]]) -> bool:
    return any(other.get(key) != value for other in others)


def _version(result: Result, twins: list[Result]) -> list[str]:
    return [f"v{result.method.version}"] if len({twin.method.version for twin in twins}) > 1 else []


def _digest(result: Result, twins: list[Result]) -> list[str]:
    return [f"source {result.method.digest[:6]}"] if len({twin.method.digest for twin in twins}) > 1 else []
