"""What an author of a method sees: a frozen set of hyper-parameters with a few hooks.

A method holds no state. What is trained lives in `stage.backbone`, what must outlive a step in `stage.memory` (plain
tensors, numbers, strings, lists and dicts of them). The engine owns the optimiser, the schedule, the number of steps
and the token budget, so every method gets the same ones and a resumed stage equals an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from ctbench.errors import BadConfig, BadPlugin, UnknownName
from ctbench.plan import Plan, sequential

if TYPE_CHECKING:
    from torch import Tensor

    from ctbench.backbone import Backbone, Batch
    from ctbench.data.stream import Stream
    from ctbench.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a reader of the leaderboard must know about a method beside its score.

    Args:
        stores_text: it keeps text of past domains.
        needs_domain: it must be told which domain a text is from when the LM is fine-tuned.
        grows: its parameters grow with the number of domains.
    """

    stores_text: bool = False
    needs_domain: bool = False
    grows: bool = False


def hyper(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] = (),
    tune: Sequence[Any] = (),
) -> Any:
    """Declare a hyper-parameter; the docstring below it in the class is its help text.

    Args:
        default: the value used unless `--set method.NAME=VALUE` says otherwise.
        low: the smallest value allowed, inclusive.
        high: the largest value allowed, inclusive.
        choices: the only values allowed.
        tune: the values that `ctbench tune` tries; empty means that it is not tuned.
    """
    return dataclasses.field(
        default=default, metadata={"low": low, "high": high, "choices": tuple(choices), "tune": tuple(tune)}
    )


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(hyper,))
class Method:
    """Base of all methods, and by itself the naive one: keep pre-training on each domain in turn.

    A subclass becomes a frozen, keyword-only dataclass and is final. `version` is raised when its numbers change;
    `version`, `traits` and `paper` are literals, so that they can be listed without importing.
    """

    version: ClassVar[int] = 1
    traits: ClassVar[Traits] = Traits()
    paper: ClassVar[str] = ""
    needs_parts: ClassVar[bool] = False
    """Whether it uses `backbone.parts` or units, so that other families are refused before anything is computed."""

    def __init_subclass__(cls) -> None:
        if cls.__bases__ != (Method,):
            raise BadPlugin(f"{cls.__name__} must inherit from ctbench.Method alone: methods are final")
        super().__init_subclass__()
        dataclass(frozen=True, kw_only=True)(cls)
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # it is one now
            if _kind(field) not in _WORDS:
                found = "no default" if field.default is dataclasses.MISSING else f"the default {field.default!r}"
                wanted = "a number, true or false, or a text"
                raise BadPlugin(f"hyper-parameter {field.name} of {cls.__name__} has {found}; {wanted} is wanted")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            _check_value(type(self).__name__.lower(), field, getattr(self, field.name))

    @property
    def configured_traits(self) -> Traits:
        """The traits under these settings, which go into the result; `traits`, a literal, holds for the defaults."""
        return self.traits

    def plan(self, stream: Stream) -> Plan:
        """Return which stages are trained, from which parent, and which LM each cell fine-tunes."""
        return sequential(stream.names)

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        """Insert adapters, prompts or gates into the untouched LM and freeze what must not train.

        Called before every stage, and before weights are loaded into the result; torch's global generator is seeded
        by the engine for the duration, so ordinary initialisers may be used.
        """
        return backbone

    def begin(self, stage: Stage) -> None:
        """Prepare a stage: it runs once, before the first step, and not when a stage is resumed."""

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        """Return the named, weighted terms of the loss; their sum is minimised and each is a column of the log.

        What a pass gives is valid until the next update: clone what is kept longer (compiled layers overwrite it).
        """
        loss = stage.backbone(batch).loss
        assert loss is not None
        return {"lm": loss}

    def after_backward(self, stage: Stage) -> None:
        """Edit gradients, before they are clipped; clone those that are kept for a later update."""

    def after_step(self, stage: Stage) -> None:
        """Edit weights, after the optimiser's update."""

    def end(self, stage: Stage) -> None:
        """Close a stage: estimate importances, fill buffers, average weights."""

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        """Return what is fine-tuned on `task`; what requires grad is what trains.

        Args:
            backbone: the LM of the stage, built and loaded, everything as `build` left it.
            stream: the stream.
            task: name of the domain whose end task follows; only a method with `needs_domain` may look at it.
            stage: number of the stage that the LM comes from, from 1; likewise.
        """
        return backbone.requires_grad_(True)

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters by name."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]  # every subclass is a dataclass


def configure(cls: type[Method], name: str, settings: Mapping[str, Any]) -> Method:
    """Make a method from settings, with precise errors.

    Args:
        cls: the method's class.
        name: the method's public name, for messages.
        settings: hyper-parameters by name; numbers may be given as int where a float is declared.

    Raises:
        UnknownName: a setting that the method does not have.
        BadConfig: a value of the wrong type or out of its range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # a dataclass
    for key in settings:
        if key not in fields:
            raise UnknownName(f"setting of method {name}", key, fields, hint=f"ctbench ls methods {name}")
    values = {key: _coerce(fields[key], value) for key, value in settings.items()}
    for key, value in values.items():
        _check_value(name, fields[key], value)
    return cls(**values)


def _kind(field: dataclasses.Field[Any]) -> type[Any]:
    """Return the type of a hyper-parameter: that of its default, but `x: float = hyper(1)` is a float."""
    return float if field.type in ("float", float) and type(field.default) is int else type(field.default)


def _coerce(field: dataclasses.Field[Any], value: Any) -> Any:
    """Turn whole numbers into floats and 1e3 into a whole number where that is what is declared."""
    kind = _kind(field)
    if kind is float and type(value) is int:
        return float(value)
    return int(value) if kind is int and isinstance(value, float) and value.is_integer() else value


def _check_value(method: str, field: dataclasses.Field[Any], value: Any) -> None:
    wanted = _kind(field)
    low, high = field.metadata.get("low"), field.metadata.get("high")
    choices = field.metadata.get("choices", ())
    place = f"method.{field.name} of {method}"
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise BadConfig(f"{place} must be {_WORDS.get(wanted, wanted.__name__)}, not {value!r}")
    if choices and value not in choices:
        raise BadConfig(f"{place} is {value!r}; allowed: {', '.join(map(repr, choices))}")
    is_number = wanted in (int, float)
    if is_number and not math.isfinite(float(value)):
        raise BadConfig(f"{place} is {value}; a finite number{_range(low, high)} is wanted")
    if is_number and ((low is not None and value < low) or (high is not None and value > high)):
        raise BadConfig(f"{place} is {value}; allowed: a number{_range(low, high)}")


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" of at least {low}"
    if low is None:
        return f" of at most {high}"
    return f" from {low} to {high}"
