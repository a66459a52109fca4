"""Pages and tables of the reference, read from the code: `tests/readme.py` writes them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctbench.plugins.source import Description

KINDS = {"<str>": "TEXT", "<list[str]>": "TEXT", "<int>": "N", "<int range>": "N", "<float>": "X", "<path>": "PATH"}
"""How the reference names the types of options that have no name of their own."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; whatever is in a cell, the row stays one line and keeps its columns.

    Example:
        >>> print(table(["key", "meaning"], [["`a`", "one | two" + chr(10) + "lines"]]), end="")
        | key | meaning |
        | --- | --- |
        | `a` | one \\| two lines |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ([" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def torn_rows(text: str) -> list[str]:
    """Return the lines of a page at which a table is torn: a row that does not end, or has other columns than its head.

    Example:
        >>> torn_rows("| a | b |\\n| --- | --- |\\n| 1 | 2 |\\n")
        []
        >>> torn_rows("| a | b |\\n| --- | --- |\\n| 1 | two\\nlines |\\n")
        ['| 1 | two']
    """
    found, columns = [], 0
    for line in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        number = len(re.findall(r"(?<!\\)\|", line))
        columns = columns or number
        if not line.endswith("|") or number != columns:
            found.append(line)
    return found


def stream_keys() -> str:
    """Return the page of a stream's keys, read from the dataclasses that check them."""
    from ctbench.data.reference import describe_keys

    sections: dict[str, list[Sequence[str]]] = {}
    for key, kind, default, text in describe_keys():
        place, _, name = key.rpartition(".")
        shown = f"`{default}`" if default not in ("", "required") else default
        sections.setdefault(place, []).append((f"`{name}`", kind, shown, text))
    columns = ("key", "type", "default", "meaning")
    parts = (f"\n## {place or 'top level'}\n\n{table(columns, rows)}" for place, rows in sections.items())
    return f"""# The keys of a stream

A stream is a TOML file. [Your corpus](../guides/corpus.md) shows a complete one; `ctbench new stream NAME` writes one with
comments. The tables are generated from the dataclasses that read the TOML, one for each table of the file: the key
`test_fraction` of `domains.task` is written below `[domains.task]`. A mistake is reported with file, line, value and the
values that are allowed; `ctbench check STREAM` checks the data as well.
{"".join(parts)}"""


def study_keys() -> str:
    """Return the page of a study's keys, read from the dataclass that checks them."""
    from ctbench.data.reference import field_docs
    from ctbench.engine.studyfile import StudyFile

    docs = field_docs(StudyFile)
    defaults = {field.name: field.default for field in dataclasses.fields(StudyFile)}
    shown = {(0,): "`0`", False: "`false`"}
    rows = [(f"`{name}`", shown.get(defaults[name], ""), text) for name, text in docs.items()]
    return f"""# The keys of a study

A study is a TOML file that `ctbench run` and `ctbench plan` take. [Many runs](../guides/studies.md) says how to use one;
`ctbench new study NAME` writes one with comments. Keys that name several things take one of them as well. The table is
generated from the dataclass that reads the TOML.

{table(("key", "default", "meaning"), rows)}"""


def command_line() -> str:
    """Return the page of the command line, read from typer."""
    from ctbench.cli import COMMANDS

    parts = "".join(f"\n## ctbench {name}\n\n{help_text}\n\n{_command(name)}" for name, help_text in COMMANDS.items())
    return f"""# Command line

Generated from the commands themselves. Every command takes `--help`. Results go to standard output, progress to standard
error; `--json` prints exactly one JSON document. The exit code is 0 if the command succeeded, 1 if the run failed, 2 if the
call was wrong, 130 if it was interrupted (143 by SIGTERM, 129 by SIGHUP). An error is one line; `--debug` shows the traceback.
{parts}"""


def _command(name: str) -> str:
    context, parameters = typer_command(name)
    records = [(one, one.get_help_record(context)) for one in parameters]
    rows = [_option(*record) for _, record in records if record]
    arguments = [one for one in parameters if not one.opts[0].startswith("-")]
    words = (f"{one.name.upper()}{'...' * (one.nargs != 1)}" for one in arguments)
    usage = (word if one.required else f"[{word}]" for word, one in zip(words, arguments, strict=True))
    called = " ".join(["ctbench", name, *usage, "[OPTIONS]"])
    return f"    {called}\n\n{table(('option', 'default', 'meaning'), rows)}"


def typer_command(name: str) -> tuple[typing.Any, list[typing.Any]]:
    """Return a context and the parameters of a command."""
    import typer

    from ctbench.cli import _APP

    group = typer.main.get_command(_APP)
    outer = group.make_context("ctbench", [name], resilient_parsing=True)
    command = group.get_command(outer, name)
    return command.make_context(name, [], resilient_parsing=True), command.params


def _option(option: str, text: str) -> tuple[str, str, str]:
    words, _, tail = text.partition("  [")
    notes = tail.rstrip("]").split("; ") if tail else []
    default = next((note.removeprefix("default: ") for note in notes if note.startswith("default: ")), "")
    default = f"`{default}`" if default else "required" if "required" in notes else ""
    for kind, word in KINDS.items():
        option = option.replace(kind, word)
    limits = [note for note in notes if re.match(r"x[<>]", note)]
    return f"`{option}`", default, " ".join([words, *(f"({limit})" for limit in limits)])


def result_keys() -> str:
    """Return the page of a result file, read from the dataclasses that check it."""
    from ctbench.results.schema import SCHEMA, Result

    parts = "".join(
        f"\n## {title}\n\n{_first_line(cls)}\n\n{_fields(cls)}" for title, cls in _records(Result, "result")
    )
    return f"""# The result file

A run writes one JSON file, `results/<stream>/<backbone>/<method>/<first 16 characters of the key>.json`. The
number of this format, `schema`, is {SCHEMA}; [result.schema.json](result.schema.json) is its JSON schema. A file of schema 1 is
still read, as a result of one unknown base; a file of any other schema is named and skipped.

Scores are in [0, 1] in full precision. A number that is missing is `null` in the file and NaN in Python; it is never 0. Rows
of the matrix are numbered 0 to T (row 0 is the base model) and stages 1 to T. A result names no machine, no person and
no absolute path. `ctbench.load_results("results")` reads a folder of results into one table.
{parts}"""


def result_schema() -> str:
    """Return the JSON schema of a result file."""
    from ctbench.results.format import json_schema

    return json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"


def _records(cls: type, title: str) -> Iterator[tuple[str, type]]:
    yield title, cls
    for field, hint in typing.get_type_hints(cls).items():
        for inner in _dataclasses_in(hint):
            yield from _records(inner, field)


def _dataclasses_in(hint: object) -> Iterator[type]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for argument in typing.get_args(hint):
        yield from _dataclasses_in(argument)


def _fields(cls: type) -> str:
    hints, meanings = typing.get_type_hints(cls, include_extras=True), _arguments(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    rows = [
        (f"`{name}`", _type(hints[name]).replace("object", _link(hints[name], name)), _escape(meanings.get(name, "")))
        for name in (field.name for field in fields)
    ]
    if any(meaning for *_, meaning in rows):
        return table(("key", "type", "meaning"), rows)
    return table(("key", "type"), [row[:2] for row in rows])


def _link(hint: object, name: str) -> str:
    return f"[object](#{name})" if list(_dataclasses_in(hint)) else "object"


def _first_line(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").partition("\nArgs:")[0].split())


def _arguments(cls: type) -> dict[str, str]:
    """Return what the docstring of a class and the docstrings below its fields say of them."""
    from ctbench.data.reference import field_docs

    lines = (inspect.getdoc(cls) or "").partition("\nArgs:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", lines, re.M)
    return field_docs(cls) | {name: " ".join(text.split()) for name, text in found}


def _type(hint: object) -> str:
    """Name a type as JSON does."""
    if typing.get_origin(hint) is typing.Annotated:
        inner = typing.get_args(hint)[0]
        return "table of numbers" if "ndarray" in str(inner) else _type(inner)
    arguments = typing.get_args(hint)
    kinds = [_type(each) for each in arguments if each not in (type(None), ...)]
    null = " or null" if type(None) in arguments else ""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{value!r}`" if not isinstance(value, str) else f'`"{value}"`' for value in arguments)
    if typing.get_origin(hint) is tuple:
        return f"list of {kinds[0]}"
    if typing.get_origin(hint) is dict:
        return f"object of {kinds[1]}{' or null' if type(None) in typing.get_args(arguments[1]) else ''}".replace(
            "or null or null", "or null"
        )
    if kinds:
        return " or ".join(dict.fromkeys(kinds)) + null
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(hint, "object" if dataclasses.is_dataclass(hint) else "value")  # type: ignore[call-overload]


def methods_page() -> str:
    """Return the page of all methods: docstrings and settings, read from their files."""
    from ctbench.plugins.find import find_plugins
    from ctbench.plugins.source import describe_method

    parts, lines = [], []
    for plugin in find_plugins("method").values():
        found = describe_method(plugin)
        summary = found.summary.partition(": ")[2] or found.summary
        paper = re.sub(r"arXiv:(\S+)", r"[\1](https://arxiv.org/abs/\1)", found.paper)
        lines.append((f"[{found.name}](#{found.name})", summary, paper or "–", traits_of(found)))
        rows = [(f"`{field.name}`", f"`{field.default}`", field.help) for field in found.fields]
        settings = table(("setting", "default", "meaning"), rows) if rows else "It has no settings.\n"
        parts.append(f"\n## {found.name}\n\n{_as_markdown(found.docstring)}\n\n{settings}")
    return f"""# Methods

Generated from the docstrings of `methods/*.py`. A setting is changed with `--set method.NAME=VALUE`; `ctbench ls methods
NAME` prints the same in a terminal. In the equations L is the loss that is minimised, theta the weights, x a batch of text.

{table(("method", "what it does", "paper", "traits"), lines)}{"".join(parts)}"""


def traits_of(described: Description) -> str:
    """Return the traits of a method under its defaults, in words."""
    return ", ".join(name.replace("_", " ") for name, holds in described.traits.items() if holds) or "–"


def _as_markdown(docstring: str) -> str:
    """Return a docstring with its equations as code and everything else as text."""
    return "\n".join(line if line.startswith("    ") else _escape(line) for line in docstring.strip().splitlines())


def _escape(line: str) -> str:
    """Escape what Markdown would read as a mark, outside of code."""
    parts = line.split("`")
    return "`".join(re.sub(r"([*_\[\]<>])", r"\\\1", part) if not i % 2 else part for i, part in enumerate(parts))


def metrics() -> str:
    """Return the table of metrics."""
    return _metrics("score")


def loss_metrics() -> str:
    """Return the table of the metrics of LM losses."""
    return _metrics("loss")


def _metrics(on: str) -> str:
    from ctbench.results.loss_metrics import metrics_on

    signs = {"higher": "↑", "lower": "↓"}
    rows = [
        (f"`{one.name}`", signs[one.better], f"`{one.definition}`", one.source.replace("[", r"\["))
        for one in metrics_on(on).values()
    ]
    return table(("metric", "better", "definition", "what it says, and where it comes from"), rows)


def findings() -> str:
    """Return the table of findings."""
    from ctbench.results.checks import CHECKS

    return table(("code", "meaning"), [(f"`{check.code}`", check.meaning) for check in CHECKS])


def streams() -> str:
    """Return the table of registered streams."""
    from ctbench.data.stream import stream_summary
    from ctbench.plugins.find import find_plugins

    summaries = [stream_summary(plugin.path) for plugin in find_plugins("stream").values()]
    return table(("stream", "kind", "summary"), [(f"`{each.name}`", each.kind, each.summary) for each in summaries])
