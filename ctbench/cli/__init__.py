"""The command line. Commands are imported when they are called, so `ctbench --help` is quick."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ctbench.cli.answer import answer_apart
from ctbench.errors import CTBenchError, RunFailed, UnknownName, one_line

COMMANDS: Final = {
    "run": "Run a method on a stream and write the result.",
    "plan": "Show what a run would compute, what is cached, and what it would take.",
    "tune": "Choose hyper-parameters by trials on validation texts, away from the reported language.",
    "show": "Show one result: matrices, metrics, cost, findings.",
    "compare": "Print leaderboards and transfer tables of the results.",
    "plot": "Draw matrices, curves and costs of the results.",
    "report": "Write all results as one HTML page.",
    "bench": "Measure this machine and the engine beside the usual choices.",
    "prepare": "Say where a stream's data comes from, arrange it and check it.",
    "ls": "List methods, streams, models or runs.",
    "check": "Check a method by the laws that all methods keep, or a stream and its data.",
    "new": "Write a method or a stream to start from.",
}

INTERRUPTED: Final = 130
RESUMABLE: Final = ("run", "tune")
"""Commands that go on where they were stopped."""


class _LazyGroup(TyperGroup):
    """A group that knows its commands' names and help, and imports one when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            raise UnknownName("command", cmd_name, COMMANDS, hint="ctbench --help")
        module = importlib.import_module(f"ctbench.cli.{cmd_name}")
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        app.command(cmd_name, help=COMMANDS[cmd_name])(module.command)
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_APP = typer.Typer(
    cls=_LazyGroup,
    help="A benchmark harness for continual pre-training of language models, scored at any time on every domain.",
    epilog="Every command takes --help; --debug shows the trace of an error.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


@_APP.callback(invoke_without_command=True)
def _root(ctx: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"ctbench {installed('ctbench')}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 the run failed, 2 the call was wrong."""
    given = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in given
    given = [arg for arg in given if arg != "--debug"]
    if "--online" not in given:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            os.environ.setdefault(name, "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter still gets the rest
    try:
        with answer_apart() if "--json" in given and "--help" not in given else contextlib.nullcontext():
            code = int(typer.main.get_command(_APP)(given, prog_name="ctbench", standalone_mode=False) or 0)
        sys.stdout.flush()
        return _stopped(given) if code == INTERRUPTED else code  # typer turns an interrupt into this code
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(given)
    except typer.Exit as error:
        return error.exit_code
    except BrokenPipeError:
        return _close_output()
    except SystemExit as error:  # what rich and typer make of a broken pipe
        if isinstance(error.__context__, BrokenPipeError):
            return _close_output()
        raise
    except (CTBenchError, TyperException) as error:
        if debug:
            raise
        message = str(error) if isinstance(error, CTBenchError) else error.format_message()
        if isinstance(error, RunFailed):
            return _fail(message, code=1)
        return _fail(one_line(message), code=2)
    except OSError as error:
        if debug:
            raise
        _close_output()
        place = f": '{error.filename}'" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}", code=1)


def _stopped(given: Sequence[str]) -> int:
    resumable = next(iter(given), None) in RESUMABLE
    return _fail("stopped; run it again to go on from there" if resumable else "stopped", code=INTERRUPTED)


def _close_output() -> int:
    """Let nothing that is still to be printed fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(message: str, *, code: int) -> int:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    first, _, rest = message.partition("\n")
    line = f"ctbench: {first}"
    print(f"\033[31m{line}\033[0m" if colour else line, file=sys.stderr)
    if rest:
        print(rest, file=sys.stderr)
    return code
