"""The identity of a node: everything that its numbers depend on, beside its parents. It enters the node's key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ctbench.training.schedules import Place

Kind = Literal["base", "stage", "loss", "cell"]
KINDS: Final[tuple[Kind, ...]] = ("base", "stage", "loss", "cell")


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What changes the last bits of a node's numbers.

    Args:
        precision: "fp32" or "bf16".
        device: kind of device: "cpu", "cuda" or "mps". Dropout draws other numbers on each.
        compiled: whether layers are compiled.
        plain_kernels: whether the library's kernels are used in place of ctbench's own (`CTBENCH_PLAIN_KERNELS=1`).
    """

    precision: str
    device: str = "cpu"
    compiled: bool = False
    plain_kernels: bool = False


@dataclass(frozen=True, kw_only=True)
class MethodIdentity:
    """A method as its numbers depend on it; `digest` is that of its source."""

    name: str
    version: int
    digest: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class BaseIdentity:
    """What an LM that is trained before row 0 depends on, beside its parent: an embedded model, or a checkpoint's warm-up.

    Args:
        model: name of an embedded model; empty for a checkpoint.
        backbone: digest of a given checkpoint; None for an embedded model, or if a parent node stands for it.
        trains: "head" if the LM head trains alone, else "all".
        text: fingerprint of the general text.
        recipe: how it is pre-trained.
        arithmetic: precision and device.
        seed: of the weights of an embedded model, and of the order of the text.
    """

    kind: Literal["base"] = "base"
    model: str
    backbone: str | None = None
    trains: Literal["all", "head"] = "all"
    text: str
    recipe: Mapping[str, Any]
    arithmetic: Arithmetic
    seed: int


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What the probes inside a stage measure.

    Args:
        texts: fingerprints of past domains and general text, by name.
        stage: number of the stage, which a method that needs the domain is told.
        held_out_tokens: tokens of each text that are read at most.
    """

    texts: Mapping[str, str]
    stage: int
    held_out_tokens: int


@dataclass(frozen=True, kw_only=True)
class StageIdentity:
    """What the LM after a stage depends on, beside the LM before it.

    Args:
        backbone: digest of a given checkpoint; None if a parent node stands for it.
        names: all domains of the stream, in order.
        method: the method.
        domains: the domains that the stage trains on, and their `text` fingerprints.
        recipe: how it is pre-trained.
        num_steps: number of updates.
        arithmetic: precision and device.
        seed: the run's seed; `build_seed`: that of the modules which the method adds.
        place: where the stage lies in its run; None under a schedule that knows one stage only.
        span: first and last update of a trunk (0, K), which a next stage goes on from, of a branch (K, N), which gives
            the row, or of an ending (N, N), for which another method's stage made all updates; None for a whole stage.
        probed: what is measured inside the stage; None for nothing.
        general: fingerprint of the general text if the method reads it in its stages, else None.
        ranks: number of ranks that train it together; None for one process.
        logits: precision of the logits of what is `probed`, None where it is that of `arithmetic`.
        noise: version of how ranks draw dropout with torch's generator; None for one process, or if nothing draws from it.
    """

    kind: Literal["stage"] = "stage"
    backbone: str | None
    names: tuple[str, ...]
    method: MethodIdentity
    domains: tuple[str, ...]
    text: tuple[str, ...]
    recipe: Mapping[str, Any]
    num_steps: int
    arithmetic: Arithmetic
    seed: int
    build_seed: int
    place: Place | None = None
    span: tuple[int, int] | None = None
    probed: Probed | None = None
    general: str | None = None
    ranks: int | None = None
    logits: str | None = None
    noise: int | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it goes on from the updates of its last parent, which its record holds too: a branch or an ending."""
        return self.span is not None and self.span[0] > 0

    @property
    def is_ending(self) -> bool:
        """Whether its last parent, another method's stage, made all updates."""
        return self.span is not None and self.span[0] == self.span[1]


@dataclass(frozen=True, kw_only=True)
class MeasuredLM:
    """The LM that a loss or a cell measures; neither the method nor the run's seed enters row 0.

    Args:
        stage: number of its stage; 0 for the untouched LM.
        backbone: digest of a given checkpoint; None if a parent node stands for it.
        method: the method; None in row 0.
        build_seed: seed of the modules which the method adds; None in row 0.
    """

    stage: int
    backbone: str | None
    method: MethodIdentity | None = None
    build_seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class LossIdentity:
    """What the held-out LM losses and the effects of an LM depend on: the LM, every domain's text and how it is read.

    The loss of general text is a node of its own, whose only domain is `GENERAL`.

    Args:
        lm: the LM.
        trained_on: the domains of its stage, on whose text effects are measured; empty for the untouched LM.
        domains: all domains, and their `text` fingerprints.
        recipe: how text is read.
        arithmetic: precision and device.
        logits: precision of the logits, None where it is that of `arithmetic`.
    """

    kind: Literal["loss"] = "loss"
    lm: MeasuredLM
    trained_on: tuple[str, ...] = ()
    domains: tuple[str, ...]
    text: tuple[str, ...]
    recipe: Mapping[str, Any]
    arithmetic: Arithmetic
    logits: str | None = None


@dataclass(frozen=True, kw_only=True)
class CellIdentity:
    """What a cell depends on: the LM, the end task (its fingerprint), the recipe and the fine-tuning seed.

    `pairs` is the version of how pairs of texts are read, see `ctbench.engine.readings`; None where it never changed.
    `logits` is the precision of the logits that answers are read off, None where it is that of `arithmetic`.
    """

    kind: Literal["cell"] = "cell"
    lm: MeasuredLM
    domain: str
    task: str
    recipe: Mapping[str, Any]
    arithmetic: Arithmetic
    seed: int
    pairs: int | None = None
    logits: str | None = None


Identity = BaseIdentity | StageIdentity | LossIdentity | CellIdentity


_LATER: Final = ("place", "span", "probed", "general", "ranks", "pairs", "logits", "noise")
"""Fields of identities added since nodes exist: at None they do not enter keys."""


def plain_identity(identity: Identity) -> dict[str, Any]:
    """Return an identity as plain JSON for a key."""
    found = dataclasses.asdict(identity)
    return {name: value for name, value in found.items() if name not in _LATER or value is not None}
