"""Who trains the stages of a run: its method, or another one that the method declares to start as."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

from ctbench.engine.identity import MethodIdentity
from ctbench.engine.node import Lookup
from ctbench.errors import BadPlugin, UnknownName
from ctbench.method import Method, configure
from ctbench.plugins.find import find_plugin, load_class
from ctbench.plugins.plugin import Plugin
from ctbench.plugins.source import source_digest


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """A method as the nodes of a graph hold it.

    Args:
        identity: enters their keys.
        lookup: where workers find it, with all else.
        general: fingerprint of the general text if its stages read it, else None.
    """

    identity: MethodIdentity
    lookup: Lookup
    general: str | None = None

    @classmethod
    def of(cls, plugin: Plugin, method: Method, lookup: Lookup, *, general: str | None = None) -> Self:
        """Return a configured method as nodes hold it; `lookup` is that of the job, without a method."""
        identity = MethodIdentity(
            name=plugin.name,
            version=type(method).version,
            digest=source_digest(plugin),
            settings=method.settings(),
        )
        place = plugin.name if plugin.registered else str(plugin.path)
        return cls(identity=identity, lookup=dataclasses.replace(lookup, method=place), general=general)


def start_of(method: Method, name: str) -> tuple[Plugin, Method] | None:
    """Return the method, under its defaults, that another one declares to start as; None if it declares none.

    Args:
        method: which declares it or not.
        name: its public name, for messages.

    Raises:
        BadPlugin: there is no such method, or the two do not measure the same LM.
    """
    wanted = method.starts_as
    if not isinstance(wanted, str):
        raise BadPlugin(f"starts_as of method '{name}' is {wanted!r}; expected the name of a method")
    if not wanted:
        return None
    try:
        plugin = find_plugin("method", wanted)
    except UnknownName as error:
        raise BadPlugin(f"starts_as of method '{name}': {error}") from error
    start = configure(load_class(plugin), plugin.name, {})
    own = [hook for hook in ("build", "adapt") if getattr(type(method), hook) is not getattr(type(start), hook)]
    if own or start.configured_traits.reads_general_text != method.configured_traits.reads_general_text:
        why = f"{own[0]} is not the same in both" if own else "only one of them reads general text in its stages"
        raise BadPlugin(f"method '{name}' cannot start as '{wanted}': {why}; leave starts_as out")
    return plugin, start
