"""What a result says of itself, compared with what its command line means here, before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ctbench.engine.description import method_record, not_comparable, plan_record
from ctbench.engine.expand import RunGraph
from ctbench.engine.result import recipe_record
from ctbench.machine.provenance import provenance
from ctbench.results.format import to_record
from ctbench.results.schema import Result
from ctbench.verification.records import lacking

LIBRARIES = ("torch", "transformers")


def contradictions(result: Result, run: RunGraph) -> list[str]:
    """Return a line for everything that the result says of itself and that is otherwise here; empty if nothing is.

    Args:
        result: as it was handed in.
        run: what its command line means here.
    """
    record = to_record(result)
    found = [*_method(record["method"], method_record(run)), *_stream(record["stream"], run)]
    found += _recipe(record["recipe"], run)
    inputs = run.inputs
    pairs = {
        "plan": (record["plan"], plan_record(run.plan)),
        "precision": (result.precision, inputs.arithmetic["pretrain"].precision),
        "order": (result.order, inputs.stream.order),
    }
    if result.method.registered == inputs.plugin.registered and result.stream.registered == inputs.stream.registered:
        pairs["not_comparable"] = (record["not_comparable"], not_comparable(run))
    if has_fixed_base(run) and result.backbone.digest != inputs.backbone:
        found.append("backbone: the untouched LM here is another one (digest differs)")
    found += [_line(what, stored, here) for what, (stored, here) in pairs.items() if stored != here]
    if not found:  # another plan or recipe asks for other records
        found += lacking(result, run)
    if not found and (has_fixed_base(run) or result.key == run.key) and result.protocol != inputs.protocol:
        found.append(_line("protocol", result.protocol, inputs.protocol))
    if not found and result.key != run.key and not other_versions(result, run):
        found.append("key: its nodes have other keys than here, though method, data, recipe and versions are equal")
    return found


def has_fixed_base(run: RunGraph) -> bool:
    """Return whether the untouched LM is a file, and not a node whose key depends on versions of libraries."""
    return run.inputs.base is None


def other_versions(result: Result, run: RunGraph) -> list[str]:
    """Return why the nodes of a result may have other keys here: what it was computed with, in words."""
    made, here = dataclasses.asdict(result.provenance), provenance()
    found = [f"{name} {made[name]} (here {here[name]})" for name in ("ctbench", *LIBRARIES) if made[name] != here[name]]
    if made["ctbench"] == here["ctbench"] and made["git"] and here["git"] and made["git"] != here["git"]:
        found.append(f"commit {made['git']} of ctbench (here {here['git']})")
    device = run.inputs.arithmetic["pretrain"].device
    if was_on_gpu(result) != (device != "cpu"):
        found.append(f"{'a GPU' if was_on_gpu(result) else 'a CPU'} (here {device})")
    found += [f"{number:g} ranks (here one process)" for number in sorted(_ranks(result))]
    return found


def _ranks(result: Result) -> set[float]:
    """Return the numbers of ranks that trained the stages of a result; empty for one process."""
    noted = (stage.notes.get("ranks") for stage in result.stages)
    return {float(number) for number in noted if isinstance(number, int | float)}


def was_on_gpu(result: Result) -> bool:
    """Return whether stages of a result were computed on a GPU, which its processor then names too."""
    return " + " in result.provenance.processor


def _method(stored: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    name = stored["name"]
    for key in ("name", "version"):
        if stored[key] != here[key]:
            yield _line(f"method {key}", stored[key], here[key])
    if stored["digest"] != here["digest"] and stored["version"] == here["version"]:
        yield f"method source: the file of {name} here is not the one that made this result (digest differs)"
    yield from _table("method.", stored["settings"], here["settings"])
    yield from _table("trait ", stored["traits"], here["traits"])


def _stream(stored: Mapping[str, Any], run: RunGraph) -> Iterator[str]:
    stream = run.inputs.stream
    here = {
        "name": stream.name,
        "version": stream.version,
        "kind": stream.kind,
        "domains": list(stream.names),
        "metric": {domain.name: domain.task.metric for domain in stream.domains},
    }
    yield from _table("stream ", {key: stored[key] for key in here}, here)
    if stored["digest"] != run.inputs.data_digest:
        yield "stream data: its texts or end tasks here are not those of the result (digest differs)"


def _recipe(stored: Mapping[str, Any], run: RunGraph) -> Iterator[str]:
    """Compare the recipes; a setting that a file leaves out, as older ones do, has its default."""
    here, recipe = recipe_record(run), run.inputs.stream.recipe
    if stored["name"] != here["name"]:
        yield _line("recipe", stored["name"], here["name"])
    for name, part in (("base", recipe.base), ("pretrain", recipe.pretrain), ("finetune", recipe.finetune)):
        if (stored[name] is None) != (here[name] is None):
            yield _line(f"recipe {name}", stored[name], here[name])
        elif part is not None and here[name] is not None:
            usual = _defaults(part)
            yield from _table(f"recipe {name}.", usual | stored[name], usual | here[name])


def _defaults(part: Any) -> dict[str, Any]:
    found = {each.name: each.default for each in dataclasses.fields(part) if each.default is not dataclasses.MISSING}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _table(what: str, stored: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*stored, *here]):
        if stored.get(key) != here.get(key):
            yield _line(f"{what}{key}", stored.get(key), here.get(key))


def _line(what: str, stored: object, here: object) -> str:
    return f"{what}: {_shown(stored)} in the result, {_shown(here)} here"


def _shown(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
