"""The full log of a run, which `--log FILE` asks for: every line that is said and every event, with its time."""

from __future__ import annotations

import traceback
from datetime import datetime
from pathlib import Path
from typing import TextIO

from ctbench.engine.launchers.events import Event
from ctbench.errors import BadConfig, one_line
from ctbench.machine.files import read_path
from ctbench.results.files import check_place


def check_log(path: str | Path) -> None:
    """Check that a log could be written; nothing is.

    Raises:
        BadConfig: it could not.
    """
    place = read_path(path)
    if place.is_dir():
        raise BadConfig(f"the log '{path}' cannot be written: it is a folder")
    check_place(place.parent, what=f"the log '{path}'", otherwise="choose another file with --log")


class LogFile:
    """Appends lines to a file, each with its time; each is there at once, whatever happens after.

    Args:
        path: the file; its folder is made.

    Raises:
        BadConfig: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        place = read_path(path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = place.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise BadConfig(f"the log '{path}' cannot be written: {error.strerror}") from None

    def write(self, text: str) -> None:
        """Append a line."""
        self._file.write(
            f"{datetime.now().astimezone().isoformat(sep=' ', timespec='milliseconds')} {one_line(text)}\n"
        )

    def write_event(self, event: Event) -> None:
        """Append what happened to a node."""
        node, place = event.node, f"step {event.step} of {event.num_steps}"
        more = {
            "progress": f" {place}, loss {event.loss:.6g}",
            "waiting": f" for {event.owner}",
            "resuming": f" from {place}",
            "saved": f" a checkpoint at {place}",
            "retrying": f": {event.reason}",
            "failed": f": {event.reason}; {len(event.dependents)} nodes need it",
        }
        self.write(f"{event.what} {node.kind} {node.key[:16]} ({node.title}){more.get(event.what, '')}")

    def write_error(self, error: BaseException) -> None:
        """Append an exception with its traceback, one line for each of its own."""
        for line in "".join(traceback.format_exception(error)).rstrip().splitlines():
            self.write(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
