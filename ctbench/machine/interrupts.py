"""Interrupts: SIGINT, SIGTERM and SIGHUP, which may wait until a step of training is complete.

The command line and worker processes install an `Interruption`; a program that calls ctbench from Python keeps its own
handlers, and a Ctrl-C is a `KeyboardInterrupt` as anywhere. An ignored signal (`nohup`) stays ignored.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruption:
    """Handler of the signals that ask a process to stop.

    The first one raises `Interrupted`, or waits for the block `deferring` to look. A second one raises it at once.

    Args:
        once: whether further signals are ignored: a worker is stopped by its parent, and by the system at the same time.
    """

    def __init__(self, *, once: bool = False) -> None:
        self.once = once
        self.number: int | None = None
        self.is_deferred = False

    def __call__(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal."""
        is_first = self.number is None
        if is_first:
            self.number = number
        if (is_first and self.is_deferred) or (self.once and not is_first):
            return
        raise Interrupted(number)


@contextlib.contextmanager
def interruptible(signals: Sequence[signal.Signals] = INTERRUPTS, *, once: bool = False) -> Iterator[Interruption]:
    """Handle signals by an `Interruption` while the block runs; the handlers of before are put back.

    Outside of the main thread, which Python gives all signals to, nothing is installed.

    Args:
        signals: those to handle; ignored ones stay ignored.
        once: whether further signals are ignored.
    """
    handler = Interruption(once=once)
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before = {each: signal.getsignal(each) for each in signals}
    taken = {each: found for each, found in before.items() if found is not signal.SIG_IGN}
    for each in taken:
        signal.signal(each, handler)
    try:
        yield handler
    finally:
        for each, found in taken.items():
            signal.signal(each, signal.SIG_DFL if found is None else found)


@dataclass(frozen=True)
class Deferral:
    """An interrupt that waits: the block looks at `number` where it may stop, and raises `Interrupted`."""

    handler: Interruption | None

    @property
    def number(self) -> int:
        """The signal that asked the process to stop; 0 if none did."""
        return (self.handler.number or 0) if self.handler is not None else 0


@contextlib.contextmanager
def deferring() -> Iterator[Deferral]:
    """Let the first interrupt wait while the block runs, if an `Interruption` handles it; a second one still raises.

    One that the block has not looked at is raised when it ends, also when it ends with an error.

    Raises:
        Interrupted: the process was asked to stop.
    """
    handler = _installed() if threading.current_thread() is threading.main_thread() else None
    if handler is None or handler.is_deferred:
        yield Deferral(None)
        return
    handler.is_deferred = True
    try:
        yield Deferral(handler)
    except Exception as error:
        if handler.number is not None:
            raise Interrupted(handler.number) from error
        raise
    finally:
        handler.is_deferred = False
    if handler.number is not None:
        raise Interrupted(handler.number)


def _installed() -> Interruption | None:
    for each in INTERRUPTS:
        if isinstance(found := signal.getsignal(each), Interruption):
            return found
    return None
