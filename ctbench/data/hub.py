"""Reading data sets of the Hugging Face hub through `datasets`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ctbench.data.records import Place, Record
from ctbench.data.schema import HubText
from ctbench.data.tasktables import HubTask
from ctbench.errors import BadData

STREAMED_BYTES = 1_000_000_000
"""Data sets whose download is larger are streamed unless the stream says otherwise."""


def read_hub(
    source: HubText | HubTask, *, split: str, fields: Sequence[str], whose: str
) -> Iterator[tuple[Place, Record]]:
    """Yield ((data set, row), record), class labels by their names, those in lists too.

    Raises:
        BadData: the data set cannot be had (offline and not in the local cache, unknown, gated) or lacks a field.
    """
    place = f"hub {source.id}@{source.revision[:12]}"
    data = _load(source, split=split, place=place, whose=whose)
    features = data.features or {}
    missing = [field for field in fields if features and field not in features]
    if missing:
        raise BadData(
            f"{place}: no field '{missing[0]}' in split {split}, wanted by {whose}; found: {', '.join(features)}"
        )
    names = {field: _class_names(features.get(field)) for field in fields}
    limit = source.max_documents if isinstance(source, HubText) else None
    for row, record in enumerate(_guarded(data, place=place, whose=whose), start=1):
        if limit is not None and row > limit:
            return
        if lacking := [field for field in fields if field not in record]:
            raise BadData(f"{place}:{row}: no field '{lacking[0]}', wanted by {whose}; found: {', '.join(record)}")
        yield (place, row), {field: _name(record[field], names[field]) for field in fields}


def _guarded(data: Iterable[Any], *, place: str, whose: str) -> Iterator[Any]:
    """Iterate; what a streamed data set raises on the way becomes one line."""
    try:
        yield from data
    except Exception as error:  # network, decoding: of any library
        raise BadData(f"{place}: broke off while reading for {whose}; {_reason(error)}") from None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _class_names(feature: Any) -> Sequence[str] | None:
    """Return the names of the classes that a field holds, one or a list of them; None for other fields."""
    held = feature.feature if type(feature).__name__ in ("List", "LargeList") else feature
    return held.names if type(held).__name__ == "ClassLabel" else None


def _name(value: Any, names: Sequence[str] | None) -> Any:
    if isinstance(value, list):
        return [_name(each, names) for each in value]
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def _load(source: HubText | HubTask, *, split: str, place: str, whose: str) -> Any:
    is_offline = any(os.environ.get(name, "0") not in ("", "0") for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    import datasets

    logging.getLogger("datasets").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            source.id,
            source.config,
            split=split,
            revision=source.revision,
            streaming=isinstance(source, HubText) and _is_streamed(source, is_offline=is_offline),
        )
    except Exception as error:  # `datasets` raises a dozen kinds, several of other libraries
        advice = (
            "this run is offline and the data set is not in the local cache: run once with --online"
            if is_offline
            else "check id, revision, config and split, and the network"
        )
        raise BadData(f"{place}: cannot be loaded for {whose}; {advice} ({_reason(error)})") from None


def _is_streamed(source: HubText, *, is_offline: bool) -> bool:
    if source.streaming is not None:
        return source.streaming
    if is_offline:
        return False
    if source.max_documents is not None:
        return True
    import datasets

    builder = datasets.load_dataset_builder(source.id, source.config, revision=source.revision)
    return (builder.info.download_size or 0) > STREAMED_BYTES
