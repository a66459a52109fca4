"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ctbench.errors import BadConfig


def to_path(text: str) -> Path:
    """Read a path; a shell leaves the ~ of --results=~/x to us."""
    return Path(text).expanduser()


MethodOption = Annotated[str, typer.Option("--method", "-m", help="Name of a method, or path of a .py file.")]
StreamOption = Annotated[str, typer.Option("--stream", "-s", help="Name of a stream, or path of a .toml file.")]
ModelOption = Annotated[
    str | None,
    typer.Option(help="Backbone: tiny, a Hugging Face id with @revision, or a folder. Default: the recipe's own."),
]
RecipeOption = Annotated[str | None, typer.Option(help="One of the stream's recipes. Default: its own.")]
SeedOption = Annotated[str, typer.Option(help="Run seed, or an inclusive range such as 0..2: one run each.")]
OrderOption = Annotated[
    str, typer.Option(help="Order of the domains: 0 is the stream's own, others are permutations; 0..2 is a range.")
]
ReorderOption = Annotated[bool, typer.Option("--reorder-periods", help="Let --order permute periods of time too.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a setting, as KEY=VALUE: method., pretrain., finetune., base., language., stream."
    ),
]
ResultsOption = Annotated[Path, typer.Option(parser=to_path, metavar="DIR", help="Folder of result files.")]
WorkersOption = Annotated[str, typer.Option(help="Worker processes: a number, 0 to compute in this process, or auto.")]
OnlineOption = Annotated[bool, typer.Option("--online", help="Allow models and data to be fetched.")]
ControlOption = Annotated[
    bool, typer.Option("--control", help="Also score the base trained on for as long on general text.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="Arithmetic of stages and cells: fp32, bf16 or auto. Default: the recipe's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


MAX_RUNS = 1000


def read_range(text: str, name: str) -> list[int]:
    """Read "3" or an inclusive range "0..2".

    Raises:
        BadConfig: anything else.

    Example:
        >>> read_range("0..2", "seed")
        [0, 1, 2]
    """
    first, dots, last = text.partition("..")
    try:
        numbers = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        numbers = range(0)
    if not numbers or numbers[0] < 0:
        raise BadConfig(f"--{name} is '{text}'; a number such as 0 or an inclusive range such as 0..2 is wanted")
    if numbers[-1] - numbers[0] >= MAX_RUNS:  # len() of a huge range overflows
        raise BadConfig(f"--{name} is '{text}'; a range of at most {MAX_RUNS} numbers is wanted")
    return list(numbers)


def read_settings(pairs: list[str] | None, precision: str | None = None) -> tuple[dict[str, str], dict[str, Any]]:
    """Split `--set` pairs into changes of the protocol (as texts) and of the method (as values).

    Raises:
        BadConfig: a pair without "=", or a table that does not exist.
    """
    protocol: dict[str, str] = {}
    method: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or "." not in key:
            raise BadConfig(f"--set '{pair}': KEY=VALUE with a table in the key is wanted, such as pretrain.lr=1e-3")
        if key.startswith("method."):
            method[key.removeprefix("method.")] = _value(value)
        else:
            protocol[key] = value
    if precision is not None:
        if precision not in ("fp32", "bf16", "auto"):
            raise BadConfig(f"--precision is '{precision}'; allowed: fp32, bf16, auto")
        protocol |= {f"{table}.precision": precision for table in ("pretrain", "finetune")}
    return protocol, method


def _value(text: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def read_workers(text: str) -> int | None:
    """Read "auto" (None) or a number.

    Raises:
        BadConfig: anything else.
    """
    from ctbench.launch import MAX_WORKERS

    if text == "auto":
        return None
    if text.isdecimal() and int(text) <= MAX_WORKERS:
        return int(text)
    raise BadConfig(f"--workers is '{text}'; auto or a number from 0 to {MAX_WORKERS} is wanted")
