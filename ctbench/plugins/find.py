"""How methods and streams are found: entry points that name packages, or a path to a file.

A package under the entry-point group `ctbench.methods` (`ctbench.benchmarks`) holds one plug-in per public module
(TOML file), named after it. Listing reads names and docstrings from the source and imports nothing; loading happens on
use. Built-in plug-ins go the same way as third-party ones.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from ctbench.errors import BadConfig, BadPlugin, UnknownName, code_place, did_you_mean, first_line
from ctbench.machine.files import read_path
from ctbench.plugins.importing import import_method
from ctbench.plugins.plugin import Plugin
from ctbench.plugins.source import describe_method, method_class, parse_method

if TYPE_CHECKING:
    from ctbench.data.stream import Stream
    from ctbench.method import Method

GROUPS: Final = {"method": "ctbench.methods", "stream": "ctbench.benchmarks"}
_SUFFIXES: Final = {"method": ".py", "stream": ".toml"}
HOOKS: Final = ("plan", "build", "begin", "loss", "after_backward", "after_step", "end", "adapt", "bake")
"""What the engine calls of a method."""
ALIKE: Final = 0.8
"""How much of two names must agree for one to be a slip of the other."""
MOST_FILES: Final = 200
"""Files of a folder that are looked at for the one that a misspelt path means."""


@lru_cache(maxsize=1)
def _find_all() -> dict[str, dict[str, Plugin]]:
    found: dict[str, dict[str, Plugin]] = {kind: {} for kind in GROUPS}
    every = entry_points()  # once: it reads the metadata of everything that is installed
    for kind, group in GROUPS.items():
        for entry in every.select(group=group):
            for plugin in _in_package(kind, entry.value):
                _add(found, plugin)
    return found


def _in_package(kind: str, package: str) -> list[Plugin]:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError as error:
        raise BadPlugin(f"the entry point of {GROUPS[kind]} names package '{package}': {error}") from error
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise BadPlugin(f"the entry point of {GROUPS[kind]} names '{package}', which is not an installed package")
    return [
        Plugin(kind=kind, name=path.stem, path=path, module=f"{package}.{path.stem}")
        for folder in folders
        for path in sorted(Path(folder).glob(f"*{_SUFFIXES[kind]}"))
        if not path.stem.startswith("_")
    ]


def _add(found: dict[str, dict[str, Plugin]], plugin: Plugin) -> None:
    for kind, plugins in found.items():
        other = plugins.get(plugin.name)
        if other is not None and other.module != plugin.module:
            raise BadPlugin(
                f"the {plugin.kind} '{plugin.name}' of {plugin.module} has the name of the {kind} of {other.module}; "
                "uninstall or rename one of them"
            )
    found[plugin.kind][plugin.name] = plugin


def find_plugins(kind: str) -> dict[str, Plugin]:
    """Return every registered plug-in of a kind ("method" or "stream") by name, sorted, importing none."""
    return dict(sorted(_find_all()[kind].items()))


def find_plugin(kind: str, name: str) -> Plugin:
    """Return the plug-in of a name, or of a path that ends in .py or .toml.

    Raises:
        UnknownName: nothing has that name.
        BadPlugin: the path does not exist.
    """
    suffix = _SUFFIXES[kind]
    if name.endswith(suffix):
        path = read_path(name).resolve()
        if not path.is_file():
            if path.is_dir():
                raise BadPlugin(f"'{name}' is a folder; the path of a {suffix} file is wanted")
            meant = file_meant(name, suffix)
            raise BadPlugin(
                f"no {kind} file '{name}'{meant} a path to a {suffix} file or a name of `ctbench ls {kind}s` is wanted"
            )
        return Plugin(kind=kind, name=path.stem, path=path, module=None)
    plugins = find_plugins(kind)
    if name not in plugins:
        raise UnknownName(kind, name, plugins, hint=f"ctbench ls {kind}s", near=files_near(name, suffix))
    return plugins[name]


def file_meant(name: str, suffix: str) -> str:
    """Return what `did_you_mean` says of a misspelt path of a file; endings, which are alike, do not count."""
    found = did_you_mean(name.removesuffix(suffix), [path.removesuffix(suffix) for path in files_near(name, suffix)])
    return found.replace("'?", f"{suffix}'?")


def files_near(name: str, suffix: str) -> list[str]:
    """Return the paths of files with an ending that lie where a path that was misspelt points to."""
    try:
        folder = read_path(name).parent
        return [str(path) for path in sorted(folder.glob(f"*{suffix}"))[:MOST_FILES] if path.is_file()]
    except (BadConfig, OSError):
        return []


def load_class(plugin: Plugin) -> type[Method]:
    """Import a method and return its class.

    Raises:
        BadPlugin: importing it fails, or it holds no single public method.
    """
    from ctbench.method import Method

    name = method_class(plugin, parse_method(plugin)).name
    try:
        module = import_method(plugin)
    except BadPlugin:
        raise
    except (Exception, SystemExit) as error:  # third-party code may raise anything at import
        raise BadPlugin(
            f"method '{plugin.name}' cannot be imported: {type(error).__name__}: {first_line(error)}{code_place(error)}"
        ) from error
    cls = getattr(module, name)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise BadPlugin(f"{name} of {plugin.path.name} does not derive from ctbench.Method")
    _check_literals(plugin, cls)
    _check_names(plugin, cls)
    _check_hooks(plugin, cls)
    return cls


def _check_names(plugin: Plugin, cls: type[Method]) -> None:
    """Refuse a name that looks like a slip of one that the class leaves to `Method`: nothing would ever call it."""
    from ctbench.method import Method

    own = {name for name in vars(cls) if not name.startswith("_")}
    left = [name for name in vars(Method) if not name.startswith("_") and name not in own]
    for name in sorted(own - {*vars(Method)} - {field.name for field in fields(cast("Any", cls))}):
        if near := get_close_matches(name, left, n=1, cutoff=ALIKE):
            raise BadPlugin(
                f"method '{plugin.name}' ({plugin.path.name}) has '{name}', which ctbench does not know; "
                f"did you mean '{near[0]}'? begin it with _ if it is a helper of your own"
            )


def _check_hooks(plugin: Plugin, cls: type[Method]) -> None:
    """Refuse hooks that the engine could not call."""
    from ctbench.method import Method

    for hook in HOOKS:
        wanted, found = inspect.signature(getattr(Method, hook)).parameters, getattr(cls, hook)
        named = f"{hook} of method '{plugin.name}' ({plugin.path.name})"
        if not callable(found):
            raise BadPlugin(f"{named} is {found!r}; expected a function of {', '.join(wanted)}")
        try:
            inspect.signature(found).bind(*wanted)
        except TypeError:
            taken = ", ".join(inspect.signature(found).parameters) or "nothing"
            raise BadPlugin(f"{named} must be a function of {', '.join(wanted)}; it takes {taken}") from None


def _check_literals(plugin: Plugin, cls: type[Method]) -> None:
    """Refuse a class that says something else than its source does to those who list it without importing."""
    from ctbench.method import Traits

    described = describe_method(plugin)
    said = {name for name, holds in described.traits.items() if holds}
    is_said = isinstance(cls.traits, Traits) and said == {name for name, holds in asdict(cls.traits).items() if holds}
    if described.paper != cls.paper or not is_said:
        raise BadPlugin(
            f"traits and paper of method '{plugin.name}' must be literals in the class, such as "
            "traits = Traits(grows=True): they are listed without importing it"
        )


def get_method(name: str, **settings: Any) -> Method:
    """Return a configured method.

    Args:
        name: a registered name, or a path to a file.
        settings: hyper-parameters; the rest keep their defaults.

    Raises:
        UnknownName: no such method or setting.
        BadConfig: a setting of the wrong type or out of range.
        BadPlugin: a file that cannot be used.

    Examples:
        >>> get_method("replay", replay_fraction=0.5).replay_fraction
        0.5
    """
    from ctbench.method import configure

    return configure(load_class(find_plugin("method", name)), name, settings)


def get_stream(name: str, *, recipe: str | None = None, settings: Mapping[str, Any] | None = None) -> Stream:
    """Return a stream, validated; its data is not touched.

    Args:
        name: a registered name, or a path to a TOML file.
        recipe: which of its recipes to use; None means its default one.
        settings: settings to override, by key, as `--set` takes them.

    Examples:
        >>> get_stream("domain").kind
        'domain'
    """
    from ctbench.data.stream import load_stream

    plugin = find_plugin("stream", name)
    return load_stream(plugin.path, registered=plugin.registered, recipe=recipe, settings=settings or {})
