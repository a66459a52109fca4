"""Streams: reading a TOML file into a frozen `Stream`, changing settings, changing the order of the domains.

    version = 1
    kind = "domain"                     # or "temporal"
    summary = "Two kinds of reviews"
    model = "tiny"
    general = { source = "files", path = "general.txt" }

    [[domains]]
    name = "phone"
    text = { source = "files", path = "phone/corpus.jsonl" }
    task = { source = "files", train = "phone/train.jsonl", test = "phone/test.jsonl" }

    [pretrain]
    tokens = 150_000

Instead of `[[domains]]` a `[language]` makes the domains of the synthetic language. `[recipes.NAME]` lies over the
default recipe, table by table, key by key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctbench.data.config import read_toml, validate
from ctbench.data.knobs import Language
from ctbench.data.schema import Domain, FilesText, HubText, Kind, Stream, SyntheticText, Task, TextSource
from ctbench.data.settings import FinetuneRecipe, PretrainRecipe, Recipe
from ctbench.data.streamfile import StreamFile, apply_settings, changed_keys, overlay
from ctbench.data.tasktables import FilesTask, Format, HubTask, Metric, Split, SyntheticTask
from ctbench.errors import BadConfig, UnknownName

MAX_NAMED_ORDERS = 1000
"""Orders below it are looked through for the same permutation, so that equal orders have one number."""

__all__ = [
    "Domain",
    "FilesTask",
    "FilesText",
    "FinetuneRecipe",
    "Format",
    "HubTask",
    "HubText",
    "Kind",
    "Language",
    "Metric",
    "PretrainRecipe",
    "Recipe",
    "Split",
    "Stream",
    "StreamSummary",
    "SyntheticTask",
    "SyntheticText",
    "Task",
    "TextSource",
    "load_stream",
    "reorder",
    "stream_summary",
]


def load_stream(
    path: Path, *, registered: bool, recipe: str | None = None, settings: Mapping[str, Any] | None = None
) -> Stream:
    """Read and check a stream; its data is not touched.

    Args:
        path: the TOML file.
        registered: whether it was found as a plug-in, under the name of its file.
        recipe: name of the recipe, None for the default one.
        settings: settings to override, by key, for example {"pretrain.tokens": 1000, "language.seed": 7}; texts are
            read as those of `--set`.

    Raises:
        BadConfig: a wrong file, key, type or value, with file and line.
        UnknownName: no such recipe.
    """
    tree, origin = read_toml(path, shown=path.name if registered else str(path))
    file = validate(StreamFile, tree, origin)
    name = file.name or path.stem
    if registered and name != path.stem:
        raise BadConfig(f"{origin.place(('name',))}: name: must be the name of the file, '{path.stem}', found '{name}'")
    names = (file.recipe, *file.recipes)
    chosen = recipe or file.recipe
    if chosen not in names:
        raise UnknownName("recipe", chosen, names, hint=f"stream {name}")
    for other in file.recipes:  # a mistake in any recipe is found, whichever is chosen
        merged = overlay(tree, other)
        origin_of_other = dataclasses.replace(origin, prefix=("recipes", other))
        checked = validate(StreamFile, merged, origin_of_other)
        if other == chosen:
            tree, origin, file = merged, origin_of_other, checked
    before = file
    if settings:
        file = validate(StreamFile, *apply_settings(tree, origin, settings))
    changed = changed_keys(before, file)
    place = {"name": name, "path": path, "registered": registered}
    return _build(file, recipe=chosen, recipes=names, changed=changed, **place)


def _build(
    file: StreamFile, *, recipe: str, recipes: tuple[str, ...], changed: tuple[str, ...], **place: Any
) -> Stream:
    return Stream(
        version=file.version,
        kind=file.kind,
        summary=file.summary,
        citation=file.citation,
        licences=file.licences,
        model=file.model,
        general=file.general,
        language=file.language,
        domains=tuple(_limit(domain, file) for domain in file.domains or _synthetic_domains(file)),
        recipe=Recipe(name=recipe, model=file.model, base=file.base, pretrain=file.pretrain, finetune=file.finetune),
        recipes=recipes,
        root=file.root,
        changed=changed,
        obtain=file.obtain,
        **place,
    )


def _synthetic_domains(file: StreamFile) -> list[Domain]:
    from ctbench.data.synthetic.language import domain_names

    assert file.language is not None
    synthetic = SyntheticText()
    return [
        Domain(name=name, text=synthetic, held_out=synthetic, task=SyntheticTask(asks_facts=file.facts))
        for name in domain_names(file.language, file.kind)
    ]


def _limit(domain: Domain, file: StreamFile) -> Domain:
    task = domain.task
    max_train, max_test = task.max_train or file.max_train, task.max_test or file.max_test
    return dataclasses.replace(domain, task=dataclasses.replace(task, max_train=max_train, max_test=max_test))


def reorder(stream: Stream, order: int, *, allow_temporal: bool = False) -> Stream:
    """Return the stream with its domains in another order.

    Args:
        stream: in its own order.
        order: 0 for the stream's own order, any other number for a seeded permutation.
        allow_temporal: whether periods of time may be permuted.

    Raises:
        BadConfig: the stream is temporal, or the order is negative.
    """
    from ctbench.randomness import make_generator

    if order == 0:
        return stream
    if order < 0:
        raise BadConfig(f"order must be 0 (the stream's own) or a positive number, found {order}")
    if stream.kind == "temporal" and not allow_temporal:
        raise BadConfig(
            f"stream {stream.name} is temporal: its periods have only their own order, 0; found {order} "
            "(--reorder-periods permutes them too)"
        )
    num_domains = len(stream.domains)

    def permutation(number: int) -> tuple[int, ...]:
        return tuple(make_generator(number, [stream.name], "order").permutation(num_domains).tolist())

    wanted, own = permutation(order), tuple(range(num_domains))
    if wanted == own:
        return stream
    first = next((number for number in range(1, min(order, MAX_NAMED_ORDERS)) if permutation(number) == wanted), order)
    return dataclasses.replace(stream, domains=tuple(stream.domains[index] for index in wanted), order=first)


@dataclass(frozen=True, kw_only=True)
class StreamSummary:
    """What a list of streams shows."""

    name: str
    version: int
    kind: str
    summary: str
    num_domains: int
    model: str


def stream_summary(path: Path) -> StreamSummary:
    """Read what a list needs, without validating the rest; raises BadConfig where the file is not TOML."""
    tree, _ = read_toml(path, shown=path.name)
    language = tree.get("language")
    num_domains = language.get("num_domains", Language.num_domains) if language else len(tree.get("domains", ()))
    return StreamSummary(
        name=str(tree.get("name", path.stem)),
        version=int(tree.get("version", 1)),
        kind=str(tree.get("kind", "")),
        summary=str(tree.get("summary", "")),
        num_domains=int(num_domains),
        model=str(tree.get("model", StreamFile.model)),
    )
