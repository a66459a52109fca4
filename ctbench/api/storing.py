"""The store of computed nodes: what lies in it, whether it is intact, and what can go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctbench.api.texts import Names, names
from ctbench.errors import BadConfig, UnknownName
from ctbench.results.folder import default_results

if TYPE_CHECKING:
    from ctbench.engine.inventory import Entry
    from ctbench.engine.prune import Choice
    from ctbench.reporting.tables import Table
    from ctbench.results.schema import Result

ACTIONS: Final = ("list", "verify", "prune")
MAX_SHOWN_RESULTS: Final = 3


@dataclass(frozen=True, kw_only=True, repr=False)
class StoreReport:
    """What `store` found or removed.

    Args:
        action: "list", "verify" or "prune".
        home: `CTBENCH_HOME`.
        entries: what was listed or verified, or what can be removed, or was.
        damaged: of "verify": the damaged entries, each with what is wrong with it.
        is_done: of "prune": whether the entries were removed.
        notes: lines that a reader should know.
    """

    action: str
    home: Path
    entries: tuple[Entry, ...]
    damaged: tuple[tuple[Entry, str], ...] = ()
    is_done: bool = False
    notes: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size of all entries."""
        return sum(entry.num_bytes for entry in self.entries)

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        reasons = {entry.path: reason for entry, reason in self.damaged}
        rows = [
            {
                "kind": entry.kind,
                "stream": entry.stream or None,
                "method": entry.method or None,
                "title": entry.title,
                "key": entry.key or None,
                "path": str(entry.path),
                "bytes": entry.num_bytes,
                "seconds": round(entry.seconds, 1),
                "results": list(entry.results),
                "claimed": entry.is_claimed,
                **({"damage": reasons.get(entry.path)} if self.action == "verify" else {}),
            }
            for entry in self.entries
        ]
        head = {"action": self.action, "home": str(self.home), "bytes": self.num_bytes}
        done = {"removed": self.is_done} if self.action == "prune" else {}
        return {**head, **done, "notes": list(self.notes), "entries": rows}

    def table(self) -> Table:
        """Return the entries by stream, method and kind."""
        from ctbench.engine.inventory import KINDS
        from ctbench.reporting.numbers import DASH, size
        from ctbench.reporting.tables import Table, text_rows

        groups: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault((entry.stream, entry.method, entry.kind), []).append(entry)
        rows = []
        for (stream, method, kind), found in sorted(groups.items(), key=lambda each: _place(each[0], KINDS)):
            made = {name for entry in found for name in entry.results}
            numbers = f"{len(found):,}", size(sum(each.num_bytes for each in found))
            age = _age(max(each.seconds for each in found))
            rows.append((stream or DASH, method or DASH, kind, *numbers, age, f"{len(made):,}" if made else DASH))
        total = f"{len(self.entries):,} entries, {size(self.num_bytes)}, in {self.home}"
        columns = ("stream", "method", "kind", "number", "size", "oldest", "results")
        return Table(title=total, columns=columns, rows=text_rows(rows), num_keys=3, left=columns[:3], notes=self.notes)

    def __repr__(self) -> str:
        return f"StoreReport({self.action}: {len(self.entries)} entries, {self.num_bytes:,} bytes)"

    def _repr_html_(self) -> str:
        from ctbench.reporting.notebook import table_html

        return table_html(self.table())


def store(
    action: str = "list",
    *,
    stream: Names = (),
    method: Names = (),
    kind: Names = (),
    older_than: str | None = None,
    unused: bool = False,
    all: bool = False,
    results: str | Path | None = None,
    yes: bool = False,
) -> StoreReport:
    """List what lies in the store (CTBENCH_HOME), verify it, or prune it.

    Without a choice, prune removes only what crashes left behind. A pruned node is computed again when a run needs it;
    result files never need the store.

    Args:
        action: list, verify or prune.
        stream: Only what was computed for these streams.
        method: Only stages and cells of these methods.
        kind: Only these kinds: base, stage, loss, cell, checkpoint, corpus, damaged, leftover.
        older_than: Only what was written so long ago: 90m, 12h, 30d or 4w.
        unused: Only what no result in the folder of results was made from.
        all: With prune: everything.
        results: Folder of result files, which tell what each entry was used for. Default: results; in a checkout of
            ctbench my-results.
        yes: With prune: remove; without it, prune only says what it would remove.

    Returns:
        The entries, and of verify the damaged ones.

    Raises:
        UnknownName: no such action, kind, stream or method.
        BadConfig: options that do not go together; a store that cannot be read; an entry that cannot be removed.

    Examples:
        >>> store("prune", older_than="30d").is_done
        False
    """
    from ctbench.engine.inventory import running, take_inventory
    from ctbench.engine.prune import Choice, read_age, removable, remove
    from ctbench.engine.store import home
    from ctbench.engine.uses import with_results

    if action not in ACTIONS:
        raise UnknownName("action", action, ACTIONS, hint="ctbench store --help")
    if action != "prune" and (yes or all):
        raise BadConfig(f"--yes and --all are for `ctbench store prune`, not for {action}")
    choice = Choice(
        streams=names(stream),
        methods=names(method),
        kinds=names(kind),
        seconds=None if older_than is None else read_age(older_than),
        is_unused=unused,
    )
    if all and choice != Choice():
        raise BadConfig("--all is everything; it takes no --stream, --method, --kind, --older-than or --unused")
    place, folder = home(), default_results() if results is None else Path(results)
    _require_readable(place)
    made = _read_every(folder, is_needed=unused)
    entries = with_results(take_inventory(place, also=(folder,)), made)
    _require_known(entries, choice)
    owners = running(place)
    if action == "prune":
        going = removable(entries, choice if all or choice != Choice() else None, is_running=bool(owners))
        notes = _prune_notes(entries, going, choice, owners=[str(owner) for owner in owners], is_done=yes)
        if yes:
            remove(going)
        return StoreReport(action=action, home=place, entries=tuple(going), is_done=yes, notes=notes)
    chosen = tuple(entry for entry in entries if choice.holds(entry))
    if action == "verify":
        return _verify(place, chosen)
    busy = tuple(f"{owner} is computing" for owner in owners)
    return StoreReport(action=action, home=place, entries=chosen, notes=busy)


def _read_every(folder: Path, *, is_needed: bool) -> list[Result]:
    """Return all results of a folder, those of the sub-folders that readers skip too.

    Raises:
        BadConfig: it `is_needed` to know them all, and there is no folder or a file that cannot be read.
    """
    from ctbench.results.files import APART, read_results

    if is_needed and not folder.is_dir():
        raise BadConfig(
            f"there is no folder of results '{folder}', so that everything would count as unused; name it with --results"
        )
    loaded = read_results(folder)
    if is_needed and loaded.skipped:
        more = f" (and {len(loaded.skipped) - 1} more)" if len(loaded.skipped) > 1 else ""
        raise BadConfig(
            f"what is unused cannot be told without all results: {loaded.skipped[0]}{more}; mend or move the file"
        )
    return [*loaded.results, *(result for name in APART for result in read_results(folder / name).results)]


def _require_known(entries: Sequence[Entry], choice: Choice) -> None:
    """Refuse names of streams and methods that nothing in the store has and that are not registered."""
    from ctbench.plugins.find import find_plugins

    for kind, asked in (("stream", choice.streams), ("method", choice.methods)):
        known = {*find_plugins(kind), *(getattr(entry, kind) for entry in entries)} - {""}
        for name in asked:
            if name not in known:
                raise UnknownName(kind, name, known, hint="ctbench store")


def _require_readable(home: Path) -> None:
    """Refuse a home that is no folder or hides what lies in it; one that is not there yet is empty."""
    for folder in (home, home / "store", home / "corpora"):
        try:
            next(folder.iterdir(), None)
        except FileNotFoundError:
            continue
        except OSError as error:
            why = f"'{folder}' cannot be read ({error.strerror})"
            raise BadConfig(f"{why}; CTBENCH_HOME must be a folder that you may read") from None


def _verify(home: Path, entries: Sequence[Entry]) -> StoreReport:
    from ctbench.engine.inventory import damage

    found = [(entry, reason) for entry in entries if (reason := damage(entry)) is not None]
    notes = ("run the same commands again: what is damaged is set aside and computed again",) if found else ()
    return StoreReport(action="verify", home=home, entries=tuple(entries), damaged=tuple(found), notes=notes)


def _prune_notes(
    entries: Sequence[Entry], going: Sequence[Entry], choice: Choice, *, owners: Sequence[str], is_done: bool
) -> tuple[str, ...]:
    from ctbench.engine.prune import removable

    notes = []
    made = sorted({name for entry in going for name in entry.results})
    if made:
        more = f" and {len(made) - MAX_SHOWN_RESULTS} more" if len(made) > MAX_SHOWN_RESULTS else ""
        shown = "; ".join(made[:MAX_SHOWN_RESULTS])
        notes.append(
            f"{len(made)} results were made from these, and stay ({shown}{more}); going on from them would compute again"
        )
    kept = len(removable(entries, choice, is_running=False)) - len(going) if owners else 0
    if kept > 0 and choice is not None:
        notes.append(f"while {', '.join(owners)} computes, only leftovers are removed")
    if going and not is_done:
        notes.append("nothing was removed; --yes removes it")
    return tuple(notes)


def _age(value: float) -> str:
    from ctbench.reporting.numbers import seconds

    return f"{value // 86_400:.0f} days" if value >= 2 * 86_400 else seconds(value)


def _place(group: tuple[str, str, str], kinds: Sequence[str]) -> tuple[str, str, int]:
    stream, method, kind = group
    return stream, method, kinds.index(kind)
