"""The command line. Each command is imported when it is called, so `ctbench --help` is quick."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException

import ctbench
from ctbench.cli.answer import answer_apart
from ctbench.errors import BadConfig, CTBenchError, Refused, RunFailed, UnknownName, one_line, print_notices
from ctbench.machine.interrupts import interruptible
from ctbench.machine.launched import is_follower, num_ranks

COMMANDS: Final = {
    "run": "Run methods on streams and write the results.",
    "plan": "Show what a run would compute, what the store has, and what the rest would take.",
    "status": "Show where the jobs of a cluster stand: done, running where, waiting for what, failed why.",
    "cancel": "Cancel the jobs of a launch on a cluster.",
    "tune": "Choose hyper-parameters by trials on validation texts, on another language than the reported one.",
    "show": "Show results: matrices, metrics, cost, findings, settings, provenance.",
    "compare": "Print leaderboards and transfer tables of the results.",
    "plot": "Draw matrices, curves and costs of the results.",
    "report": "Write all results as one HTML page.",
    "export": "Write the LM of a row as a Hugging Face checkpoint.",
    "verify": "Compute a few nodes of a result again and say whether they agree.",
    "bench": "Measure the speed of this machine and of the engine, beside a Trainer.",
    "prepare": "Say where a stream's data comes from, or arrange it and check it.",
    "store": "List what is stored and what it takes, verify it, or remove what can go.",
    "ls": "List methods, streams, models or runs.",
    "check": "Check a method by the laws that all methods keep, or a stream and its data.",
    "new": "Write a method, a stream or a study to start from.",
}

_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}

INTERRUPTED: Final = 130
STOPS: Final[dict[int, str]] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
RESUMABLE: Final = ("run", "tune")
"""Commands that resume where they were interrupted."""


class _Command(TyperCommand):
    """A command that refuses an option with one value if it is given twice; the last one would win silently."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        *_, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            is_single = isinstance(option, TyperOption) and not (option.multiple or option.is_flag)
            if is_single and given.count(option) > 1 and not ctx.resilient_parsing:
                name = max(option.opts, key=len)
                raise BadConfig(f"{name} was given {given.count(option)} times; it takes one value")
        return super().parse_args(ctx, args)


class _LazyGroup(TyperGroup):
    """A group that knows the names and the help of its commands, and imports a command when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            raise UnknownName("command", cmd_name, COMMANDS, hint="ctbench --help")
        module = importlib.import_module(f"ctbench.cli.{cmd_name}")
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        app.command(cmd_name, cls=_Command, help=COMMANDS[cmd_name], context_settings=_SETTINGS)(module.command)
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_APP = typer.Typer(
    cls=_LazyGroup,
    help="A benchmark harness for continual pre-training of language models, scored at any time on every domain.",
    epilog="Every command takes --help; --debug shows the traceback of an error.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)


@_APP.callback(invoke_without_command=True)
def _root(ctx: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(f"ctbench {ctbench.__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 is success, 1 a failed run, 2 a wrong call, 130 an interrupt (SIGINT), 143 a termination (SIGTERM), 129 a hang-up.
    """
    given = list(sys.argv[1:] if args is None else args)
    with interruptible(once=num_ranks() > 1) as interruption:  # torchrun stops its ranks, and the terminal does too
        try:
            code = _main(given)
        except OSError:
            if interruption.number is None:
                raise
            code = INTERRUPTED  # the terminal is gone, and standard error with it
        is_stopped = code == INTERRUPTED or (code != 0 and interruption.number is not None)
        return _stopped(given, by=interruption.number or signal.SIGINT) if is_stopped else code


def _main(given: list[str]) -> int:
    debug = "--debug" in given
    given = [arg for arg in given if arg != "--debug"]
    if "--online" not in given:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            os.environ.setdefault(name, "1")
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # letters that the terminal lacks are replaced
    if is_follower() and (given[:1] != ["run"] or {"--dry-run", "--help", "-h"} & set(given)):
        return 0  # the first rank says it
    try:
        wants_json = "--json" in given and not {"--help", "-h"} & set(given)
        with _notices_as_lines(), answer_apart() if wants_json else contextlib.nullcontext():
            code = int(typer.main.get_command(_APP)(given, prog_name="ctbench", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code  # typer turns an interrupt into `INTERRUPTED`
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except typer.Exit as error:
        return error.exit_code
    except BrokenPipeError:
        return _close_output()
    except SystemExit as error:  # rich and typer turn a broken pipe into it
        if isinstance(error.__context__, BrokenPipeError):
            return _close_output()
        raise
    except (CTBenchError, TyperException) as error:
        if debug:
            raise
        message = str(error) if isinstance(error, CTBenchError) else _usage(error)
        has_lines = isinstance(error, RunFailed | Refused)
        return _fail(message if has_lines else one_line(message), code=1 if isinstance(error, RunFailed) else 2)
    except OSError as error:
        if debug:
            raise
        _close_output()
        place = f"'{error.filename}'" if error.filename else "standard output"
        return _fail(one_line(f"{place}: {error.strerror or error}"), code=1)


def _usage(error: TyperException) -> str:
    """Return what typer says about a wrong call in our words, and where to read more."""
    message = error.format_message().removesuffix(".")
    for kind, wanted in (("integer", "a whole number"), ("number", "a number")):
        message = re.sub(
            rf"Invalid value for (.*): Input should be a valid {kind}.*", rf"\1: expected {wanted}", message
        )
    context = getattr(error, "ctx", None)  # of typer's exceptions some have one
    return f"{message} ({context.command_path} --help)" if context is not None else message


@contextlib.contextmanager
def _notices_as_lines() -> Iterator[None]:
    """Print the notices of the API on standard error, one plain line each."""
    with warnings.catch_warnings():
        print_notices()
        yield


def _stopped(given: Sequence[str], *, by: int) -> int:
    """Say that a signal stopped the command; standard error may be gone with its terminal."""
    resumable = next(iter(given), None) in RESUMABLE
    code = 128 + by
    try:
        return _fail(STOPS[by] + ("; run the same command to resume" if resumable else ""), code=code)
    except OSError:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return code


def _open_closed() -> None:
    """Give standard streams that the caller closed a place to go to, before a file takes their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  # for as long as the process lives


def _close_output() -> int:
    """Send what is still to be printed to nowhere, so that flushing it at exit cannot fail."""
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
