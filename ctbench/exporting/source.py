"""From a result to the LM of one of its rows: what the store holds, built again as the run built it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.checkpoint import MADE, backbone_digest
from ctbench.data.sources import read_texts
from ctbench.data.stream import Stream
from ctbench.engine.bases import find_shipped, shipped_digest
from ctbench.engine.identity import MethodIdentity
from ctbench.engine.materials import Materials
from ctbench.engine.node import Lookup
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, BadData, BadPlugin, CTBenchError, MissingResult, UnknownName
from ctbench.exporting.bake import condition_of, is_conditional, refuse_prompt
from ctbench.machine.device import isolated
from ctbench.machine.files import read_path
from ctbench.method import Method
from ctbench.plans import BASE
from ctbench.plugins.find import find_plugin, find_plugins, get_stream
from ctbench.plugins.source import source_digest
from ctbench.randomness import make_generator, seed_from
from ctbench.reporting.reproduce import command_line
from ctbench.results.schema import Result

MAX_CONTEXT_TOKENS = 100_000
"""Of a longer context the first tokens are read: its mean word hardly changes any more."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be exported.

    Args:
        result: the run.
        row: 0 is the base; None the last row.
        context: name of a domain or path of a text file, None for an LM that needs none.
        method: path of an unregistered method; `stream` and `model` (a folder) likewise.
        online: whether the network may be used.
    """

    result: Result
    row: int | None = None
    context: str | None = None
    method: str | Path | None = None
    stream: str | Path | None = None
    model: str | Path | None = None
    online: bool = False


@dataclass(frozen=True, kw_only=True)
class RowLM:
    """The LM of a row.

    Args:
        backbone: as cells fine-tune it, on the CPU.
        method: what built it; None for the untouched LM.
        row: the row; `stage`: the stage that trained it, 0 for the untouched LM.
        text: the tokens [1, T] of the context of a conditional LM.
        context: what chose the LM or its condition; None if nothing was to be chosen.
    """

    backbone: Backbone
    method: Method | None
    row: int
    stage: int
    text: Batch | None = None
    context: str | None = None


def read_row(request: Request) -> RowLM:
    """Return the LM of a row.

    Raises:
        CTBenchError: there is no such row or LM, a context is missing or too many, the store lacks the LM, or method,
            stream or model are not those of the result any more.
    """
    result = request.result
    row = result.num_tasks if request.row is None else request.row
    domain, stage = _choose(request, row)
    lookup = _lookup(request, has_method=stage != BASE)
    materials = Materials(Store(home() / "store", writes=False), home() / "corpora")
    stream = materials.stream(lookup)
    _check_stream(stream, result)
    key = result.stages[stage - 1].key if stage != BASE else None
    _require(result, row, [each for each in (lookup.base, key) if each], materials.store)
    if stage == BASE:
        _refuse_context(request, domain, row)
        return RowLM(backbone=materials.restore(lookup, Method(), 0, None)[0], method=None, row=row, stage=BASE)
    method = materials.method(lookup, _method_identity(result))
    backbone, _ = materials.restore(lookup, method, result.seed, key)
    told = domain or stream.names[0]
    with isolated(threads=1):
        torch.manual_seed(seed_from(result.seed, [told], "adapt") >> 1)
        backbone = method.adapt(backbone, stream, told, stage).eval()
    found = RowLM(backbone=backbone, method=method, row=row, stage=stage, context=request.context)
    if not is_conditional(backbone):
        _refuse_context(request, domain, row)
        return found
    if request.context is None:
        _refuse_prompts(backbone, result, row)
        raise BadConfig(
            f"the LM of row {row} of {result.method.name} depends on what its texts are about: choose the context to bake "
            f"in with --context, one of {', '.join(stream.names)} or a file of text"
        )
    return dataclasses.replace(found, text=_read_context(request.context, stream, backbone))


def _choose(request: Request, row: int) -> tuple[str | None, int]:
    """Return the domain that chooses among the LMs of a row, None if there is one LM alone, and the stage's number."""
    result, context = request.result, request.context
    if not 0 <= row < len(result.plan.cells):
        raise BadConfig(f"row is {row}; the rows of this result are 0 to {len(result.plan.cells) - 1}")
    sources = dict(zip(result.stream.domains, result.plan.cells[row], strict=True))
    stages = {source for source in sources.values() if source is not None}
    if not stages:
        rows = [str(number) for number, cells in enumerate(result.plan.cells) if any(s is not None for s in cells)]
        raise BadConfig(f"{result.method.name} has no LM in row {row}; rows with one: {', '.join(rows)}")
    if stages == {BASE} or not (len(stages) > 1 or result.method.traits.needs_domain):
        (stage,) = stages
        return None, stage
    if context is None:
        names = ", ".join(sources)
        raise BadConfig(
            f"the LM of row {row} of {result.method.name} depends on the domain: choose one with --context, of {names}"
        )
    if context not in sources:
        raise UnknownName("domain", context, sources, hint="the LM of this method depends on the domain")
    chosen = sources[context]
    if chosen is None:
        raise BadConfig(f"{result.method.name} has no LM for the domain {context} in row {row}")
    return context, chosen


def cannot_be_exported(result: Result, row: int, reason: Exception) -> BadConfig:
    """Return the error for an LM that no checkpoint holds."""
    return BadConfig(f"row {row} of {result.method.name} cannot be exported: {reason}")


def _refuse_prompts(backbone: Backbone, result: Result, row: int) -> None:
    """Refuse a conditional LM for which no context would help, before one is asked for."""
    probe = probe_of(backbone)
    try:
        refuse_prompt(condition_of(backbone, probe, probe))
    except BadConfig as error:
        raise cannot_be_exported(result, row, error) from error


def _refuse_context(request: Request, domain: str | None, row: int) -> None:
    if request.context is not None and domain is None:
        raise BadConfig(f"row {row} has one LM for all texts, so there is no context to choose; leave --context out")


def _lookup(request: Request, *, has_method: bool) -> Lookup:
    """Return where the run found things, from names that a result keeps and paths that it does not."""
    result = request.result
    settings = {key: str(value) for key, value in result.changed.items() if not key.startswith("method.")}
    model = str(request.model or result.backbone.name)
    if result.recipe.base is None:
        _check_model(model, result, online=request.online)
    elif model != result.backbone.name:
        raise BadConfig(
            f"the base of this result ({result.backbone.name}) was trained by ctbench, which finds it itself; leave --model out"
        )
    found = Lookup(
        stream=place_of("stream", request.stream, result.stream.name, is_registered=result.stream.registered),
        recipe=result.recipe.name,
        settings=settings,
        order=result.order,
        model=model,
        online=request.online,
        method=_method_place(request) if has_method else None,
    )
    if result.recipe.base is None:
        return found
    return dataclasses.replace(found, base=base_node(found, result.backbone.digest))


def base_node(lookup: Lookup, digest: str) -> str | None:
    """Return the key of the node that ctbench trained an untouched LM in; None if the LM is the shipped one.

    Args:
        lookup: where stream and model are found.
        digest: key of the node, or digest of the shipped files, as a result has it.
    """
    if lookup.model in MADE:
        stream = get_stream(lookup.stream, recipe=lookup.recipe, settings=lookup.settings)
        shipped = find_shipped(stream, lookup.model)
        if shipped is not None and shipped_digest(shipped) == digest:
            return None
    return digest


def place_of(what: str, given: str | Path | None, name: str, *, is_registered: bool) -> str:
    """Return where a method or a stream of a result is found: its name, or the path that was given for it.

    Raises:
        BadConfig: it is a file, whose path a result does not keep, and none was given.
        UnknownName: nothing registered has the name; a name in a file from elsewhere is never taken for a path.
    """
    known = find_plugins(what) if given is None and is_registered else {name: None}
    if name not in known:
        raise UnknownName(what, name, known, hint="its file is named with --" + what)
    if given is None and not is_registered:
        raise BadConfig(f"a result keeps no paths, and its {what} '{name}' is a file: name it with --{what} PATH")
    return str(given or name)


def _method_place(request: Request) -> str:
    method = request.result.method
    place = place_of("method", request.method, method.name, is_registered=method.registered)
    plugin = find_plugin("method", place)
    if source_digest(plugin) != method.digest:
        raise BadPlugin(
            f"method '{plugin.name}' is not the one that made this result (its source was edited, or is of another "
            f"version), so the LM cannot be built again; run it anew: {command_line(request.result)}"
        )
    return place


def _method_identity(result: Result) -> MethodIdentity:
    method = result.method
    return MethodIdentity(name=method.name, version=method.version, digest=method.digest, settings=method.settings)


def _check_model(model: str, result: Result, *, online: bool) -> None:
    try:
        found = backbone_digest(model, online=online)
    except CTBenchError as error:
        raise BadConfig(
            f"{error}; if the model of this result lies in a folder, name it with --model FOLDER"
        ) from error
    if found != result.backbone.digest:
        raise BadConfig(
            f"model '{model}' is not the one of this result (weights, configuration or tokenizer differ); "
            "name its folder with --model"
        )


def _check_stream(stream: Stream, result: Result) -> None:
    found, wanted = (stream.name, stream.version, stream.names), (result.stream.name, result.stream.version)
    if found != (*wanted, result.stream.domains):
        raise BadConfig(
            f"stream {stream.name} version {stream.version} is not the one of this result "
            f"({wanted[0]} version {wanted[1]} with the domains {', '.join(result.stream.domains)})"
        )


def _require(result: Result, row: int, keys: Iterable[str], store: Store) -> None:
    for key in keys:
        if not store.has(key):
            raise MissingResult(
                f"the LM of row {row} (node {key[:16]}) is not in the store of CTBENCH_HOME; compute it with "
                f"`{command_line(result)}` and export the result that this writes"
            )


def probe_of(backbone: Backbone) -> Batch:
    """Return two rows of random ordinary tokens, every place of which is predicted."""
    ordinary = sorted({*backbone.tokenizer.get_vocab().values()} - backbone.special_ids)
    length = min(16, backbone.max_length or 16)
    rows = make_generator(0, [], "export probe").choice(ordinary, (2, length)).astype(np.int64)
    return Batch(input_ids=torch.from_numpy(rows), positions=torch.arange(rows.size))


def _read_context(context: str, stream: Stream, backbone: Backbone) -> Batch:
    """Return the tokens [1, T] of a domain's text, or of a file."""
    if context in stream.names:
        texts: Iterable[str] = read_texts(stream, stream.domain(context).text, domain=context)
    elif (path := read_path(context)).is_file():
        texts = _lines(path)
    else:
        raise UnknownName("domain", context, stream.names, hint="or a file of text, which there is none of this name")
    ids: list[int] = []
    for text in texts:
        ids += backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= MAX_CONTEXT_TOKENS:
            break
    if not set(ids) - backbone.special_ids:
        raise BadData(f"the context '{context}' holds no word that the tokenizer knows")
    return Batch(input_ids=torch.tensor([ids[:MAX_CONTEXT_TOKENS]]))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadData(f"the context '{path}' cannot be read ({reason})") from None
