"""The base class of methods: a frozen set of hyper-parameters with a few hooks.

A method holds no state. What is trained lives in `stage.backbone`, what must outlive a step in `stage.memory` (plain
tensors, numbers, strings, lists and dicts of them). The engine owns the optimiser, the schedule, the number of steps
and the token budget, so every method gets the same ones and a resumed stage equals an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, dataclass_transform

from pydantic import AfterValidator, Field, Strict, TypeAdapter, ValidationError

from ctbench.data.settings import Flag, Whole
from ctbench.errors import BadConfig, BadPlugin, UnknownName, first_line
from ctbench.plans import Plan, sequential

if TYPE_CHECKING:
    from torch import Tensor

    from ctbench.backbone import Backbone, Batch
    from ctbench.data.stream import Stream
    from ctbench.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Traits of a method, shown beside its scores on the leaderboard.

    Args:
        stores_text: whether it keeps text of past domains.
        needs_domain: whether fine-tuning must tell it the domain of a text.
        grows: whether its number of parameters grows with the number of domains.
        reads_general_text: whether its stages read the stream's general text; only then `Stage.general` gives any.
    """

    stores_text: bool = False
    needs_domain: bool = False
    grows: bool = False
    reads_general_text: bool = False


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
        default: value unless `--set method.NAME=VALUE` overrides it; its type is the type of the hyper-parameter.
        low: smallest value allowed, inclusive.
        high: largest value allowed, inclusive.
        choices: the only values allowed.
        tune: values that `ctbench tune` tries; empty if the hyper-parameter is not tuned.
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
        for field in _fields(cls):
            if _kind(field) not in _WORDS:
                found = "no default" if field.default is dataclasses.MISSING else f"the default {field.default!r}"
                wanted = "a number, true or false, or a text"
                raise BadPlugin(f"hyper-parameter {field.name} of {cls.__name__} has {found}; expected {wanted}")
            declared = str(getattr(field.type, "__name__", field.type))
            if _DECLARED.get(declared, _kind(field)) is not _kind(field):
                found = f"is declared {declared} and has the default {field.default!r}"
                raise BadPlugin(f"hyper-parameter {field.name} of {cls.__name__} {found}; both must be of one type")

    def __post_init__(self) -> None:
        for field in _fields(type(self)):
            value = _checked(type(self).__name__.lower(), field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    @property
    def configured_traits(self) -> Traits:
        """The traits under these settings, which go into the result; `traits`, a literal, holds for the defaults."""
        return self.traits

    @property
    def starts_as(self) -> str:
        """Name of a method whose first stage, under its defaults, trains as this one's; "" if there is none.

        A first stage is one from the untouched LM, with an empty memory. The engine trains it once for both methods, and
        for all settings, and measures its row once. Then it calls this method's `begin`, gives it the weights of the
        other's stage, and calls `end`, which must leave them as they are. `build` and `adapt` may not be overridden.
        """
        return ""

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

        Names are texts without "/"; "loss", "step" and "gradient norm" are columns of their own. A term that an update
        lacks counts 0 there.

        Outputs of a pass are valid until the next update (compiled layers overwrite them): clone tensors that you keep
        longer.
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

    def bake(self, backbone: Backbone, text: Batch | None) -> Backbone:
        """Turn what `build` added into ordinary weights, for `ctbench export`; no number depends on it.

        By default nothing is turned: ctbench itself bakes the map of a `Mixer` and merges peft's layers, and refuses
        to export an LM with other modules. Every export is compared with the LM it comes from.

        Args:
            backbone: the LM as `adapt` left it, on the CPU; it may be changed.
            text: tokens [1, T] of the context that a conditional LM is baked for; None for other LMs.

        Raises:
            BadConfig: it is impossible; the message is the reason.
        """
        return backbone

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters by name."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]  # every subclass is a dataclass


def returned_backbone(given: object, method: Method, hook: str) -> Backbone:
    """Return what `build` or `adapt` of a method returned.

    Raises:
        BadPlugin: it is no backbone.
    """
    from ctbench.backbone import Backbone

    if not isinstance(given, Backbone):
        name, found = type(method).__name__.lower(), type(given).__name__
        raise BadPlugin(f"{hook} of method '{name}' returns a {found}; the backbone is wanted")
    return given


def configure(cls: type[Method], name: str, settings: Mapping[str, Any]) -> Method:
    """Make a method from settings.

    Args:
        cls: the method's class.
        name: the method's public name, for messages.
        settings: hyper-parameters by name; 1 stands for 1.0 and 1e3 for 1000 where the field is declared so.

    Raises:
        UnknownName: a setting that the method does not have.
        BadConfig: a value of the wrong type or out of its range.
        BadPlugin: limits or choices that do not fit the type of their hyper-parameter.
    """
    fields = {field.name: field for field in _fields(cls)}
    for key in settings:
        if key not in fields:
            raise UnknownName(f"setting of method {name}", key, fields, hint=f"ctbench ls methods {name}")
    return cls(**{key: _checked(name, fields[key], value) for key, value in settings.items()})


def _fields(cls: type[Method]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass


def _checked(method: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """Return a hyper-parameter's value in its declared type; raises BadConfig if the field does not allow it."""
    kind: Any = _kind(field)
    low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
    try:
        return _adapter(kind, low, high, choices).validate_python(value)
    except ValidationError:
        wanted = _allowed(field)
        raise BadConfig(f"method.{field.name} of {method}: must be {wanted}, found {value!r}") from None
    except (TypeError, ValueError) as error:  # limits that no number compares with, choices that cannot be told apart
        raise BadPlugin(
            f"method.{field.name} of {method}: low, high or choices do not fit its type ({first_line(error)})"
        ) from None


@cache
def _adapter(kind: Any, low: float | None, high: float | None, choices: tuple[Any, ...] | None) -> Any:
    """Return the pydantic type of a hyper-parameter: the types of a stream's keys, with its own range."""
    if kind in (int, float):
        hint: Any = Annotated[_TYPES[kind], Field(ge=low, le=high)]
    else:
        hint = _TYPES[kind]
    return TypeAdapter(Annotated[hint, AfterValidator(partial(_choose, choices))] if choices else hint)


def _choose(choices: tuple[Any, ...], value: Any) -> Any:
    if value not in choices:
        raise ValueError("not one of the choices")
    return value


def _allowed(field: dataclasses.Field[Any]) -> str:
    low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
    if choices:
        return f"one of {', '.join(map(repr, choices))}"
    words = _WORDS[_kind(field)]
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    if low is not None:
        return f"{words} of at least {low}"
    return f"{words} of at most {high}" if high is not None else words


def _kind(field: dataclasses.Field[Any]) -> type[Any]:
    """Return the type of a hyper-parameter: that of its default, but `x: float = hyper(1)` is a float."""
    return float if field.type in ("float", float) and type(field.default) is int else type(field.default)


_TYPES: Final[Mapping[type, Any]] = {
    int: Whole,
    float: Annotated[float, Strict(), Field(allow_inf_nan=False)],
    bool: Flag,
    str: Annotated[str, Strict()],
}
_DECLARED: Final = {kind.__name__: kind for kind in _TYPES}
_WORDS: Final = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
