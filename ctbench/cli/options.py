"""The options of a command: names, defaults and help texts are those of the API's function of the same name."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ctbench.api.texts import argument_texts
from ctbench.errors import BadConfig
from ctbench.results.folder import RESULTS, default_results

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on standard error.")]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say more on standard error, a line per node; run prints what show prints."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be computed, as `ctbench plan` does.")]

SHORT: Final = {"method": "-m", "stream": "-s", "kind": "-k", "output": "-o"}
METAVARS: Final = {
    "results": "DIR",
    "output": "PATH",
    "log": "FILE",
    "planned": "A:B",
    "set": "KEY=VALUE",
    "seed": "N,...",
    "order": "N,...",
    "slurm": "KEY=VALUE,...",
    "address": "HOST:PORT",
    "ray": "KEY=VALUE,...",
}
TYPES: Final[dict[str, Any]] = {
    "bool": bool,
    "int": int,
    "int | None": int,
    "float": float,
    "float | None": float,
    "Names": list[str],
    "Settings": list[str],
    "Several": list[str],
    "Several | None": list[str],
    "Numbers | None": list[str],
}
"""Types of options by the annotations of the API; every other one is a text, which the function reads."""
KINDS: Final[dict[Any, str]] = {str: "TEXT", int: "NUMBER", float: "NUMBER", list[str]: "NAME,..."}
ONLY_PYTHON: Final = ("progress", "folder")
"""Arguments of the API that no command has: standard error shows progress, files are written here."""

Command = Callable[..., None]


def takes_options_of(function: Callable[..., Any], *, arguments: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Give a command the options of a function of the API, as its `**given`.

    Args:
        function: the function of the API.
        arguments: options that are given by their position.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**given: Any) -> None:
            named = {name: value for name, value in given.items() if value is not None and value is not False}
            command(**{name: ",".join(value) if name in numbers else value for name, value in named.items()})
            folder = default_results()
            is_shown = sys.stdout.isatty() or folder.name != RESULTS
            if is_shown and reads_results(function.__name__, given) and given["results"] is None:
                print(f"results: {folder}", file=sys.stderr)

        shown = inspect.signature(function).parameters
        numbers = [name for name, each in shown.items() if each.annotation == "Numbers | None"]
        texts, hints = argument_texts(function.__doc__), typing.get_type_hints(command, include_extras=True)
        taken = [
            _parameter(each, texts[name], is_argument=name in arguments)
            for name, each in shown.items()
            if name not in ONLY_PYTHON or name in arguments
        ]
        own = [
            each.replace(annotation=hints[each.name], kind=each.KEYWORD_ONLY)
            for each in inspect.signature(command).parameters.values()
            if each.kind is not each.VAR_KEYWORD
        ]
        call.__signature__ = inspect.Signature([*taken, *own])  # type: ignore[attr-defined]  # inspect looks for it
        call.__annotations__ = {each.name: each.annotation for each in [*taken, *own]}
        del call.__wrapped__  # typer would read the annotations of what is wrapped
        return call

    return decorate


def reads_results(name: str, given: Mapping[str, Any]) -> bool:
    """Return whether a command with these options reads a folder of results, or writes one without naming its files."""
    return "results" in given and name != "run" and given.get("what", "runs") == "runs"


def _parameter(given: inspect.Parameter, text: str, *, is_argument: bool) -> inspect.Parameter:
    """Return a parameter of a command for one of the API."""
    kind: Any = TYPES.get(str(given.annotation), str)
    default = _default(given, kind)
    more: dict[str, Any] = {"help": text[:1].upper() + text[1:]}
    if given.name in ("results", "output", "log"):
        more["parser"] = to_path
    if kind is bool:
        more["show_default"] = False
    elif isinstance(given.default, tuple) and given.default:
        more["show_default"] = ",".join(given.default)
    if is_argument:
        info = typer.Argument(**more)
    else:
        flags = [f"--{given.name.replace('_', '-')}", *([SHORT[given.name]] if given.name in SHORT else [])]
        if kind is not bool:
            more["metavar"] = METAVARS.get(given.name) or KINDS[kind]
        info = typer.Option(*flags, **more)
    hint: Any = Annotated
    annotation = hint[kind | None if default is None else kind, info]
    return given.replace(annotation=annotation, default=default, kind=given.KEYWORD_ONLY)


def _default(given: inspect.Parameter, kind: Any) -> Any:
    """Return the default of an option; None leaves it to the API's function."""
    if given.default is given.empty or kind is bool:
        return given.default
    if kind == list[str] or given.default is None:
        return None
    return kind(given.default)


def to_path(text: str) -> Path:
    """Read a path; a shell leaves the ~ of --results=~/x to us."""
    from ctbench.machine.files import read_path

    return read_path(text)


def progress_of(*, quiet: bool, verbose: bool) -> bool | str:
    """Return the API's `progress` for the flags of a command.

    Raises:
        BadConfig: both flags were given.
    """
    if quiet and verbose:
        raise BadConfig("--quiet and --verbose were both given; give one of them")
    from ctbench.engine.job import VERBOSE

    return VERBOSE if verbose else not quiet
