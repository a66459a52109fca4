"""Functions whose keyword arguments are the options of a `Study` or a `Job`: their signature and help are made from it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ctbench.api.texts import argument_texts
from ctbench.data.override import pairs
from ctbench.engine.job import Job
from ctbench.engine.study import Study
from ctbench.errors import CTBenchError, RunFailed, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


def takes_study(make: Callable[P, Study]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Turn a function of a `Study` into one of the study's options and its own; `make` is `Study` itself.

    Examples:
        >>> @takes_study(Study)
        ... def count(asked: Study) -> int:
        ...     return len(asked.jobs)
        >>> count(method="naive,replay", stream="domain")
        2
    """

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        own = [each for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY]

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            _refuse_unknown(function.__name__, options, inspect.signature(call).parameters)
            mine = {each.name: options.pop(each.name) for each in own if each.name in options}
            try:
                return function(make(*args, **options), **mine)
            except RunFailed:
                raise
            except CTBenchError as error:
                _name_lines(error, args, options)
                raise

        taken = inspect.signature(Study).parameters.values()
        _describe(call, function, [*taken, *own], doc=Study.__doc__)
        return call

    return decorate


def _name_lines(error: CTBenchError, args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Let an error about what a study's file sets or names tell its line."""
    from ctbench.engine.studylines import name_lines

    study = args[0] if args else options.get("study")
    if isinstance(study, str | Path):
        with contextlib.suppress(CTBenchError):  # the options are what is wrong
            keys = [key for key, _ in pairs(options.get("set", ()))]
            named = [f"{name}s" for name in ("method", "stream", "model", "recipe") if options.get(name) is not None]
            name_lines(error, study, but=[*keys, *named])


def adds_job_options(*, without: Iterable[str]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Show a function's `**options` as options of a `Job`, but for those named in `without`."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def call(**options: Any) -> R:
            _refuse_unknown(function.__name__, options, inspect.signature(call).parameters)
            return function(**options)

        own = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
        taken = inspect.signature(Job).parameters.items()
        _describe(call, function, [*own, *(each for name, each in taken if name not in {*without})], doc=Job.__doc__)
        return call

    return decorate


def _describe(
    call: Any, function: Callable[..., Any], parameters: Iterable[inspect.Parameter], *, doc: str | None
) -> None:
    """Give `call` its signature, and its docstring a line for each option in place of the one for all of them."""
    shown = sorted(parameters, key=lambda each: each.default is not each.empty)
    call.__signature__ = inspect.signature(function).replace(parameters=shown)
    said = inspect.cleandoc(function.__doc__ or "")
    own, texts = argument_texts(said), argument_texts(doc)
    lines = "\n".join(f"    {each.name}: {texts[each.name]}" for each in shown if each.name not in own)
    call.__doc__ = re.sub(r"^    (asked|\*\*options): .*$", lambda _: lines, said, flags=re.M)


def _refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise TypeError(f"{function}() has no option '{name}'{did_you_mean(name, names)} known: {', '.join(names)}")
