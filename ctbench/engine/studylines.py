"""Which line of a study's file an error is about.

Whoever refuses a setting or a name knows what was asked for, not where it was written. Errors say it the same way
everywhere (`--set KEY`, `no method 'NAME'`), so the file is read again and the line found by what they say. Where several
lines may be meant, the file alone is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ctbench.data.config import Key, Origin, read_toml
from ctbench.data.override import write_setting
from ctbench.engine.studyfile import flat
from ctbench.errors import BadConfig, CTBenchError, Refused
from ctbench.machine.files import read_path

NAME: Final = re.compile(r"(?<!\S)no (?P<kind>method|stream|recipe|model)(?: file)? '(?P<name>.*?)'(?=[;:])")
HYPER: Final = (
    re.compile(r"(?<!\S)no setting of method (?P<method>\S+) '(?P<key>.*?)'(?=;)"),
    re.compile(r"(?<!\S)method\.(?P<key>\w+) of (?P<method>\S+):(?=.*?(?:, found (?P<value>.*))?$)"),
    re.compile(r"^(?P<method>[\w-]+)\.(?P<key>\w+)(?= is (?:\[|an empty list))"),
)

Places = Sequence[tuple[Any, str]]
"""Values that are written in the file, and where."""


def name_lines(error: CTBenchError, given: str | Path, *, but: Container[str] = ()) -> None:
    """Let an error about a setting or a name that a study's file has name the file and the line.

    Args:
        error: is changed in place, because those who catch it want its class.
        given: the study's file.
        but: keys of settings, and of the file, that options of the call set, whatever the file says.
    """
    path = read_path(given)
    try:
        tree, origin = read_toml(path, shown=path.name)
    except BadConfig:  # the error is about that
        return
    lines = _Lines(tree, origin, path.parent, but)
    error.args = tuple(lines.tell(text) if isinstance(text, str) else text for text in error.args)
    if isinstance(error, Refused):
        error.reasons = tuple(map(lines.tell, error.reasons))


class _Lines:
    """The places of a file's settings and names."""

    def __init__(self, tree: Mapping[str, Any], origin: Origin, folder: Path, but: Container[str]) -> None:
        self.tree, self.origin, self.folder, self.but = tree, origin, folder, but
        self.settings = self._settings()

    def tell(self, text: str) -> str:
        """Return a message with the places of what it is about."""
        return "\n".join(self._tell_names(self._tell_settings(line)) for line in text.split("\n"))

    def _tell_settings(self, line: str) -> str:
        for key, places in self.settings.items():
            again = f"(?:{re.escape(key)}|{re.escape(key.removeprefix('stream.'))})"
            said = rf"--set {re.escape(key)}(?:=(?P<value>.*?): {again}(?=[: ])|(?=[: ]|=(?P<given>.*?): |=))"
            if found := re.search(said, line):
                place = self._one(places, found["value"] or found["given"], write_setting)
                line = f"{line[: found.start()]}{place}: set.{key}{line[found.end() :]}"
        return line

    def _tell_names(self, line: str) -> str:
        """Return one line with the place of the name, or of the method's setting, that it is about."""
        for pattern in (NAME, *HYPER):
            if found := pattern.search(line):
                asked = found.groupdict()
                place = self._name(**asked) if pattern is NAME else self._hyper(**asked)
                return f"{line[: found.start()]}{place}: {line[found.start() :]}" if place else line
        return line

    def _tables(self) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        """Yield the file's tables of runs and where they stand, the file itself first."""
        yield (), self.tree
        runs = self.tree.get("runs")
        for number, table in enumerate(runs if isinstance(runs, list) else ()):
            if isinstance(table, dict):
                yield ("runs", number), table

    def _settings(self) -> dict[str, list[tuple[Any, str]]]:
        """Return what the file's tables `[set]` hold, by key."""
        found: dict[str, list[tuple[Any, str]]] = {}
        for where, table in self._tables():
            given = table.get("set")
            settings: dict[str, Any] = given if isinstance(given, dict) else {}
            for key, value in flat(settings).items():
                own = (key,) if key in settings else tuple(key.split(".", 1))
                if key not in self.but:
                    found.setdefault(key, []).append((value, self.origin.place((*where, "set", *own))))
        return found

    def _values(self, key: str) -> Iterator[tuple[Any, Key]]:
        """Yield what the file lists under a key, and its key in the file."""
        for where, table in self._tables() if key not in self.but else ():
            given = table.get(key, ())
            for number, value in enumerate(given if isinstance(given, list) else [given]):
                yield value, (*where, key, number)

    def _one(self, places: Places, said: str | None, write: Callable[[Any], str]) -> str:
        """Return the place of a value that an error writes somehow, the file if there may be several, "" if none."""

        def is_meant(value: Any) -> bool:
            return said in {write(each) for each in (value, *(value if isinstance(value, list) else ()))}

        lines = {place for value, place in places if is_meant(value)} or {place for _, place in places}
        return self.origin.file if len(lines) > 1 else "".join(lines)

    def _is(self, written: Any, name: str) -> bool:
        """Return whether a method, stream, recipe or model of the file is the one of a name or path."""
        text = written.get("name") if isinstance(written, dict) else written
        if not isinstance(text, str):
            return False
        return name in (text, str(self.folder / read_path(text)), Path(text).stem if text.endswith(".py") else text)

    def _name(self, kind: str, name: str) -> str:
        """Return where a method, stream, recipe or model is named, "" if nowhere."""
        places = [(name, self.origin.place(key)) for value, key in self._values(f"{kind}s") if self._is(value, name)]
        return self._one(places, name, str)

    def _hyper(self, method: str, key: str, value: str | None = None) -> str:
        """Return where a method's hyper-parameter is set, "" if nowhere or by the call."""
        own = f"{method}.{key}"
        if own in self.but or f"method.{key}" in self.but:
            return ""
        tables = [(table, place) for table, place in self._values("methods") if isinstance(table, dict)]
        listed = [
            (table[key], self.origin.place((*place, key)))
            for table, place in tables
            if key in table and self._is(table, method)
        ]
        places = self.settings.get(own) or listed or self.settings.get(f"method.{key}", [])
        return self._one(places, value, repr)
