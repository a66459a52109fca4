"""How much a set of nodes would take, judged by the nodes that the store has already: of the same kind, model and precision.

Where the store has none, the speeds that `ctbench bench` measured on this machine and left in the home folder serve.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from ctbench.engine.identity import KINDS, BaseIdentity, LossIdentity, StageIdentity
from ctbench.engine.node import Node
from ctbench.engine.records import Stored, StoredBase, StoredCell, StoredStage
from ctbench.engine.speeds import TINY_LAYER_PARAMETERS, Speed, layer_parameters, model_bytes, nearest, read_speeds
from ctbench.engine.store import Store
from ctbench.errors import RunFailed
from ctbench.machine.manifest import NAME

WorkKind = tuple[str, str, str]
"""Model, precision and kind of device."""
HeldOut = Mapping[tuple[str, str], int]
"""Tokens that are held out of a text, by model and fingerprint of the text."""
MAX_SAMPLES = 200
"""Maximum number of records to sample per kind of work."""
MAX_READ = 2000
"""Maximum number of records of the store to read."""
TRAIN_OVER_EVALUATE: Final = 3.0
"""A token costs this many times as much in training, forward and backward, as when it is only read."""
ROUGH_RATES: Final = {"cpu": 5e10, "gpu": 2e13}
"""Operations a second that `rough_seconds` takes for granted."""
ROUGH_TOKENS: Final = 12_000.0
"""Tokens of the training examples of a cell that `rough_seconds` takes for granted."""
ROUGH_START: Final = 0.1
"""Seconds that `rough_seconds` adds to every node."""
RECORD_BYTES: Final = 4096
"""What the record of a node takes on a disk."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """How long a node would take, in seconds on one worker, and the `source`: "store" or "bench"."""

    seconds: float
    source: str


class Estimator:
    """Judges how long nodes would take.

    Args:
        nodes: those that will be asked about.
        store: nodes of the same kind with the same model and precision are believed first: their median, scaled by
            tokens for bases and stages and by epochs for cells.
        speeds: from `read_speeds`, where the store has no such node.
        held_out: what is held out of texts where it is known; of others, LM losses are taken to read all they may.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        store: Store,
        speeds: Sequence[Speed] = (),
        *,
        held_out: HeldOut = MappingProxyType({}),
    ) -> None:
        every = list(nodes)
        self._held_out = held_out
        self._seen = _samples(store, {work_of(node) for node in every})
        self._speeds = speeds
        self._sizes = {model: layer_parameters(model) for model in {node.lookup.model for node in every}}
        self._units: dict[tuple[WorkKind, str, bool], float | None] = {}

    def guess(self, node: Node) -> Guess | None:
        """Return how long a node would take; None if nothing is known."""
        unit = self._unit(node)
        if unit is not None:
            amount = _epochs(node) if node.kind == "cell" else _amount(node, self._held_out)
            return Guess(seconds=unit * amount, source="store")
        seconds = self._from_bench(node)
        return None if seconds is None else Guess(seconds=seconds, source="bench")

    def _unit(self, node: Node) -> float | None:
        """Return the median seconds per epoch of a cell or per token, of the store's nodes of the same kind of work."""
        work = work_of(node), node.kind, node.identity.arithmetic.compiled
        if work not in self._units:
            records = self._seen.get(work[0], ())
            if node.kind == "cell":
                cells = [each for each in records if isinstance(each, StoredCell) and each.work.epochs]
                units = [each.seconds / float(each.work.epochs or 1) for each in cells]
            else:
                told = [each for each in records if _tells(each, node)]
                units = [each.training.seconds / each.training.tokens for each in told if _is_training(each)]
            self._units[work] = median(units) if units else None
        return self._units[work]

    def _from_bench(self, node: Node) -> float | None:
        size, (_, precision, where) = self._sizes[node.lookup.model], work_of(node)
        here = [row for row in self._speeds if row.get("device", "cpu") == where]
        near = nearest(here, "cell" if node.kind == "cell" else "stage", size, precision, node.lookup.threads)
        if near is None or size is None:
            return None
        per_unit = float(near["seconds"]) * size / float(near["layer_parameters"])
        amount = float(near["examples"]) * _epochs(node) if node.kind == "cell" else _amount(node, self._held_out)
        return per_unit * amount


def rough_seconds(node: Node) -> float:
    """Return about how long a node takes on some machine: of use only beside other nodes, until one was computed."""
    size = layer_parameters(node.lookup.model) or TINY_LAYER_PARAMETERS
    tokens = ROUGH_TOKENS * _epochs(node) if node.kind == "cell" else _amount(node)
    rate = ROUGH_RATES["cpu" if node.identity.arithmetic.device == "cpu" else "gpu"]
    return 6.0 * size * tokens / rate + ROUGH_START


def costs(nodes: Sequence[Node], store: Store, home: Path) -> tuple[dict[str, float], bool]:
    """Return the estimated seconds of each node on one worker, by key, and whether they rest on measured speeds.

    Args:
        nodes: to be computed.
        store: nodes of the same kind are believed first.
        home: the folder of measured speeds.
    """
    estimator = Estimator(nodes, store, read_speeds(home))
    guesses = {node.key: estimator.guess(node) for node in nodes}
    if any(guess is None for guess in guesses.values()):
        return {node.key: rough_seconds(node) for node in nodes}, False
    return {key: guess.seconds for key, guess in guesses.items() if guess is not None}, True


def estimate(
    nodes: Iterable[Node], store: Store, *, speeds: Sequence[Speed] = (), estimator: Estimator | None = None
) -> list[dict[str, Any]]:
    """Return a row per kind of node: how many there are, are cached and missing, tokens to train on, seconds and bytes.

    Seconds are those of `Estimator`, None if it knows nothing about one of the missing nodes. `source` says where they
    come from: "store", "bench" (for at least one node) or None. `bytes` is what the missing nodes take in the store.

    Args:
        nodes: of the runs asked for, each once.
        store: what is there already.
        speeds: from `read_speeds`.
        estimator: one that was made of these already.
    """
    every = list(nodes)
    judge = estimator or Estimator(every, store, speeds)
    rows = []
    for kind in KINDS:
        mine = [node for node in every if node.kind == kind]
        todo = [node for node in mine if not store.has(node.key)]
        guesses = [judge.guess(node) for node in todo]
        known = [guess for guess in guesses if guess is not None]
        is_known = len(known) == len(todo)
        sources = {guess.source for guess in known}
        rows.append(
            {
                "kind": kind,
                "total": len(mine),
                "cached": len(mine) - len(todo),
                "missing": len(todo),
                "tokens": sum(_num_tokens(node) for node in todo),
                "seconds": sum(guess.seconds for guess in known) if is_known else None,
                "source": ("bench" if "bench" in sources else "store") if is_known and todo else None,
                "bytes": sum(map(_num_bytes, todo)),
            }
        )
    return rows


def _num_tokens(node: Node) -> int:
    """Return the tokens that a base or a stage trains on."""
    identity = node.identity
    if isinstance(identity, BaseIdentity | StageIdentity):
        recipe = identity.recipe
        per_step = int(recipe["batch"]) * int(recipe["length"])
        if isinstance(identity, StageIdentity):
            first, last = identity.span or (0, identity.num_steps)
            return (last - first) * per_step
        return -(-int(recipe["tokens"]) // per_step) * per_step
    return 0


def _read_tokens(node: Node, held_out: HeldOut) -> float:
    """Return the tokens that a loss node reads at most, as the number of training tokens that cost as much."""
    assert isinstance(node.identity, LossIdentity)
    most = int(node.identity.recipe["held_out_tokens"])
    texts = [(node.lookup.model, text) for text in node.identity.text]
    return sum(min(most, held_out.get(text, most)) for text in texts) / TRAIN_OVER_EVALUATE


def _amount(node: Node, held_out: HeldOut = MappingProxyType({})) -> float:
    """Return the tokens that a base, a stage or a loss trains on or reads, as training tokens."""
    return _read_tokens(node, held_out) if node.kind == "loss" else float(_num_tokens(node))


def _num_bytes(node: Node) -> int:
    """Return about how many bytes a node takes in the store; a method's memory is unknown."""
    return RECORD_BYTES + (model_bytes(node.lookup.model) or 0 if node.kind in ("base", "stage") else 0)


def _is_training(record: Stored) -> TypeGuard[StoredBase | StoredStage]:
    return isinstance(record, StoredBase | StoredStage)


def _tells(record: Stored, node: Node) -> bool:
    """Return whether a record tells how fast a node trains, or how fast a loss reads text, which is never compiled."""
    same = record.work.compiled == node.identity.arithmetic.compiled
    return _is_training(record) and (same or node.kind == "loss")


def _epochs(node: Node) -> float:
    return float(node.identity.recipe["epochs"])


def work_of(node: Node) -> WorkKind:
    """Return the model, the precision and the kind of device of a node."""
    arithmetic = node.identity.arithmetic
    return node.lookup.model, arithmetic.precision, arithmetic.device


def _samples(store: Store, wanted: set[WorkKind]) -> dict[WorkKind, list[Stored]]:
    """Return the newest records by kind of work; damaged or vanished records are left out."""
    paths = []
    for path in store.root.glob(f"??/*/{NAME}"):
        with contextlib.suppress(OSError):
            paths.append((path.stat().st_mtime, path.parent.name))
    found: dict[WorkKind, list[Stored]] = {}
    for _, key in sorted(paths, reverse=True)[:MAX_READ]:
        with contextlib.suppress(RunFailed, OSError):
            record = store.read(key)
            work = record.work.model, record.work.precision, record.work.device
            if work in wanted:
                found.setdefault(work, []).append(record)
        if found.keys() == wanted and all(len(records) >= MAX_SAMPLES for records in found.values()):
            break
    return found
