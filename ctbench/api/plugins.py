"""Methods and streams: list, check, write and prepare them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctbench.api.answers import Listing, MethodCheck, Preparation, Written
from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.machine.files import read_path
from ctbench.results.folder import default_results

if TYPE_CHECKING:
    from ctbench.data.inspect import StreamInspection
    from ctbench.engine.job import Settings
    from ctbench.results.schema import Result

SHOWN_KEY: Final = 12
"""Number of characters of a key that are listed."""
SHOWN_SCORES: Final = ("anytime", "A_Acc", "O_Acc", "F_Acc")
"""Metrics of a run that are listed, in percent."""
MODELS: Final = (
    {
        "name": "tiny",
        "objective": "mlm",
        "summary": "2 layers of 128, pre-trained on the stream's general text, offline",
    },
    {
        "name": "tiny-causal",
        "objective": "clm",
        "summary": "the same as a decoder",
    },
    {"name": "tiny-64", "objective": "mlm", "summary": "tiny with layers of 64"},
    {"name": "tiny-256", "objective": "mlm", "summary": "tiny with layers of 256"},
    {"name": "ID@REVISION", "objective": "mlm or clm", "summary": "a Hugging Face checkpoint (--online downloads it)"},
    {"name": "FOLDER", "objective": "mlm or clm", "summary": "a local checkpoint of any of the families"},
)


def ls(what: str, name: str | None = None, *, results: str | Path | None = None) -> Listing:
    """List methods, streams, models or runs; nothing is imported to list it.

    Args:
        what: methods, streams, models or runs.
        name: List only this one: of a method its hyper-parameters, of a run the first characters of its key.
        results: Folder of result files. Default: results; in a checkout of ctbench my-results.

    Raises:
        UnknownName: nothing has that name.
        MissingResult: no run has a key with those first characters.

    Examples:
        >>> [row["name"] for row in ls("streams")][:3]
        ['arxiv-years', 'dapset', 'dapset-mini']
    """
    folder = default_results() if results is None else Path(results)
    if what == "runs" and results is not None and not folder.is_dir():
        raise MissingResult(f"no folder '{folder}'; name one with results (--results)")
    listers: dict[str, Callable[[], Listing]] = {
        "methods": lambda: Listing(what=what, rows=_methods()) if name is None else _hyper_parameters(name),
        "streams": lambda: Listing(what=what, rows=_streams()),
        "models": lambda: Listing(what=what, rows=MODELS),
        "runs": lambda: _runs(folder),
    }
    if what not in listers:
        raise UnknownName("list", what, listers, hint="ctbench ls --help")
    found = listers[what]()
    if name is None or what == "methods":
        return found
    if what == "runs":
        rows = tuple(row for row in found if str(row["name"]).startswith(name.lower()[:SHOWN_KEY]))
        if not rows:
            raise MissingResult(f"no run whose key begins with '{name}' in {folder}")
    else:
        rows = tuple(row for row in found if row["name"] == name)
        if not rows:
            raise UnknownName(what.removesuffix("s"), name, [str(row["name"]) for row in found])
    return Listing(what=what, rows=rows, skipped=found.skipped)


def check(
    name: str | Path,
    *,
    model: str | Path | None = None,
    recipe: str | None = None,
    set: Settings = (),
    online: bool = False,
) -> MethodCheck | StreamInspection:
    """Check a method by the laws that all methods keep, or a stream with its data and model.

    A stream that a run would refuse is refused in the same words.

    Args:
        name: Name of a method or stream, or path of a .py or .toml file.
        model: Backbone of a stream: tiny, tiny-causal, a Hugging Face id@revision, or a folder. Default: the recipe's own.
        recipe: One of the stream's recipes. Default: the stream's default recipe.
        set: Setting to override, as KEY=VALUE (repeatable), in Python {KEY: VALUE}: method.KEY of a method, other keys of a
            stream.
        online: Allow ctbench to download models and data of a stream.

    Returns:
        The verdicts about a method (`.holds`), or what is in a stream's data (`.problems`).

    Raises:
        UnknownName: no method and no stream has that name.
        CTBenchError: settings that the method or stream does not take, or a stream that a run would refuse.
    """
    from ctbench.data.override import read_overrides

    overrides, text = read_overrides(set), str(name)
    if kind_of(text) == "stream":
        if overrides.method:
            raise BadConfig(f"'{text}' is a stream, it takes no --set method.KEY")
        return _check_stream(text, None if model is None else str(model), recipe, overrides.protocol, online=online)
    for key in overrides.protocol:
        raise BadConfig(f"--set {key}: of a method, check takes only hyper-parameters (method.KEY)")
    if model is not None or recipe is not None or online:
        raise BadConfig(f"'{text}' is a method, it takes no --model, --recipe or --online")
    from ctbench.laws import check_method
    from ctbench.plugins.find import find_plugin, load_class

    plugin = find_plugin("method", text)
    verdicts = check_method(load_class(plugin), name=plugin.name, settings=overrides.method)
    return MethodCheck(method=plugin.name, verdicts=tuple(verdicts))


def _check_stream(
    name: str, model: str | None, recipe: str | None, settings: Mapping[str, str], *, online: bool
) -> StreamInspection:
    from ctbench.data.inspect import inspect_stream
    from ctbench.engine.preflight import Setup, examine, require_names
    from ctbench.engine.recipes import choose_recipe, passes, rate_remarks
    from ctbench.engine.store import home

    stream = choose_recipe(name, model=model, recipe=recipe, settings=settings)
    backbone = model or stream.recipe.model
    require_names({"stream": stream.name, "model": backbone})
    setup = Setup(stream=stream, model=backbone, online=online)
    corpora = examine(setup, corpora=home() / "corpora", packs=False)
    found = inspect_stream(stream, corpora=corpora)
    problems = (*found.problems, *rate_remarks(stream, backbone))
    return dataclasses.replace(found, passes=passes(stream, corpora), problems=problems)


def new(what: str, name: str, *, package: bool = False, folder: str | Path = ".") -> Written:
    """Write a method, a stream or a study to start from; nothing is overwritten.

    Args:
        what: method, stream or study.
        name: Its name: of a method or stream lower-case letters, digits and underscores, of a study dashes and dots too.
        package: Write a method as a package of its own, with an entry point and a test.
        folder: Folder to write into.

    Raises:
        UnknownName: neither a method nor a stream nor a study.
        BadConfig: a name that cannot be used or is taken, or a file that is there already.
    """
    writers = ("method", "stream", "study")
    if what not in writers:
        raise UnknownName("kind of plug-in", what, writers, hint="ctbench new --help")
    if package and what != "method":
        raise BadConfig(f"--package is for methods; a {what} is one TOML file")
    from ctbench.plugins.new import new_method, new_package, new_stream, new_study

    place = Path(folder)
    if package:
        files = new_package(name, place)
        return Written(
            files=tuple(files), following=f"pip install --no-deps -e {_shown(files[0].parent)} && ctbench check {name}"
        )
    files = {"method": new_method, "stream": new_stream, "study": new_study}[what](name, place)
    path = _shown(files[0])
    if what == "study":
        return Written(files=tuple(files), following=f"ctbench plan {path} && ctbench run {path}")
    run = f"--method {path} --stream domain" if what == "method" else f"--method naive --stream {path}"
    return Written(files=tuple(files), following=f"ctbench check {path} && ctbench run {run}")


def prepare(stream: str | Path, folder: str | Path | None = None) -> Preparation:
    """Say where a stream's data comes from; given a folder with the originals, arrange and check them.

    Args:
        stream: Name of a stream, or path of a .toml file.
        folder: Folder with the originals. Without it: where they come from.

    Raises:
        BadData: an original is missing or not what it should be.
        BadConfig: the stream has no files to arrange.
    """
    from ctbench.data.prepare import prepare_stream
    from ctbench.plugins.find import get_stream

    found = get_stream(str(stream))
    nothing = (
        "needs no data: ctbench makes its text" if found.language else "says nothing about where its data comes from"
    )
    obtain = found.obtain.strip() or f"stream {found.name} {nothing}"
    prepared = None if folder is None else prepare_stream(found, read_path(folder))
    return Preparation(stream=found.name, obtain=obtain, prepared=prepared)


def kind_of(name: str) -> str:
    """Return "method" or "stream", judged by the ending of a path or by the registered names.

    Raises:
        UnknownName: neither has that name.
    """
    from ctbench.plugins.find import files_near, find_plugins

    if name.endswith((".py", ".toml")):
        return "method" if name.endswith(".py") else "stream"
    known = {each: kind for kind in ("method", "stream") for each in find_plugins(kind)}
    if name not in known:
        near = [*files_near(name, ".py"), *files_near(name, ".toml")]
        raise UnknownName("method or stream", name, known, hint="ctbench ls methods, ctbench ls streams", near=near)
    return known[name]


def _shown(path: Path) -> str:
    return str(path) if path.is_absolute() else f"./{path}"


def _methods() -> tuple[dict[str, Any], ...]:
    from ctbench.plugins.find import find_plugins
    from ctbench.plugins.source import describe_method

    rows = []
    for described in map(describe_method, find_plugins("method").values()):
        traits = [trait.replace("_", " ") for trait, holds in described.traits.items() if holds]
        summary = described.summary.partition(": ")[2] or described.summary
        row = {"name": described.name, "summary": summary, "paper": described.paper, "traits": ", ".join(traits)}
        rows.append(row)
    return tuple(rows)


def _hyper_parameters(name: str) -> Listing:
    from ctbench.plugins.find import find_plugin
    from ctbench.plugins.source import describe_method

    fields = describe_method(find_plugin("method", name)).fields
    rows = tuple({"name": f"method.{field.name}", "default": field.default, "help": field.help} for field in fields)
    return Listing(what="methods", rows=rows, empty=f"method {name} has no hyper-parameters")


def _streams() -> tuple[dict[str, Any], ...]:
    from ctbench.data.stream import stream_summary
    from ctbench.plugins.find import find_plugins

    rows = []
    for name, plugin in find_plugins("stream").items():
        found = stream_summary(plugin.path)
        row = {"name": name, "kind": found.kind, "domains": found.num_domains, "model": found.model}
        rows.append({**row, "summary": found.summary})
    return tuple(rows)


def _runs(results: Path) -> Listing:
    from ctbench.results.files import read_results

    if results.is_file():
        raise BadConfig(f"'{results}' is a file; expected the folder of result files")
    loaded = read_results(results)
    backbones: dict[str, set[str]] = {}
    for result in loaded.results:
        backbones.setdefault(result.backbone.name, set()).add(result.backbone.digest)
    rows = [_run(result, is_one=len(backbones[result.backbone.name]) == 1) for result in loaded.results]
    return Listing(what="runs", rows=tuple(rows), skipped=loaded.skipped)


def _run(result: Result, *, is_one: bool) -> dict[str, Any]:
    """Return the row of a run; two checkpoints of one name are told apart by their digests."""
    backbone = result.backbone
    scores = {name: result.computed_metrics[name] for name in SHOWN_SCORES}
    return {
        "name": result.key[:SHOWN_KEY],
        "date": result.provenance.date[:10],
        "stream": result.stream.name,
        "method": result.method.name,
        "backbone": backbone.name if is_one else f"{backbone.name} ({backbone.digest[:6]})",
        "seed": result.seed,
        "order": result.order,
        **{name: "–" if value is None else f"{100 * value:.1f}" for name, value in scores.items()},
        "findings": len(result.findings),
        "complete": "yes" if result.is_complete else "no",
        "changed": " ".join(f"{key}={value}" for key, value in sorted(result.changed.items())),
    }
