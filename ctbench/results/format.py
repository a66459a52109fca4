"""Convert a `Result` to the text of its file and back; errors are reported in one line."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ctbench.errors import BadResult, one_line
from ctbench.results.consistency import contradiction
from ctbench.results.schema import SCHEMA, Result
from ctbench.results.setup import StreamRecord
from ctbench.results.upgrade import upgrade

MAX_BYTES = 64 * 2**20
"""Size above which a file is no result: one of 100 domains has less than 20 MB."""
_OLD = re.compile(rb'\s*\{\s*"schema"\s*:\s*1\s*,')
"""The beginning of a file of schema 1, as ctbench wrote them."""
_BY_DOMAIN = ("metric", "majority", "bayes", "baseline", "num_test", "num_predicted", "tasks")
"""Tables of a stream's record that hold a value for each domain, where they are there."""


@cache
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def result_from(record: Mapping[str, Any]) -> Result:
    """Return the `Result` of a record, validated like a file.

    Args:
        record: the content of a result file as dicts, sequences, numbers and strings. NumPy values are taken as well;
            NaN and infinity become null.

    Raises:
        BadResult: a key is missing, unknown or of the wrong type, or a shape is wrong.
    """
    return parse(json.dumps(_plain(record)).encode(), "record")


def to_record(result: Result) -> dict[str, Any]:
    """Return the content of the result file as dicts, lists, numbers and strings."""
    record: dict[str, Any] = _adapter().dump_python(result, mode="json", exclude={"path"})
    return record


def to_text(result: Result) -> str:
    """Return the text of the result file, with one top-level key, matrix row, cell or stage per line."""
    lines = []
    for key, value in to_record(result).items():
        if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
            items = ",\n".join("  " + _dump(item) for item in value)
            lines.append(f" {_dump(key)}: [\n{items}\n ]")
        else:
            lines.append(f" {_dump(key)}: {_dump(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_small(path: str | Path) -> bytes:
    """Return the content of a regular file that is no larger than results are.

    Raises:
        BadResult: it cannot be read, is a pipe or a device, or too large.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadResult(f"{one_line(path)}: foreign: not a regular file")
        if status.st_size > MAX_BYTES:
            raise BadResult(f"{one_line(path)}: foreign: larger than {MAX_BYTES >> 20} MB, so no result of ctbench")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadResult(f"{one_line(path)}: cannot be read ({reason})") from None


def parse(data: bytes, name: str) -> Result:
    """Return the `Result` in `data`, the bytes of a file that messages call `name`.

    Raises:
        BadResult: the content is invalid; the message is one line.
    """
    try:
        result = _adapter().validate_json(_upgraded(data))
    except ValidationError as error:
        raise BadResult(f"{name}: {_diagnose(data, error)}") from None
    problem = _misfit(result)
    if problem:
        raise BadResult(f"{name}: {problem}")
    wrong = contradiction(result)
    if wrong:
        raise BadResult(one_line(f"{name}: corrupt: {wrong}"))
    return result


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a result file."""
    return _adapter().json_schema()


def _upgraded(data: bytes) -> bytes:
    """Return a file of schema 1 in the newest schema, and any other bytes as they are."""
    if not _OLD.match(data):
        return data
    try:
        return json.dumps(upgrade(json.loads(data))).encode()
    except (ValueError, RecursionError):
        return data


def _diagnose(data: bytes, error: ValidationError) -> str:
    """Return in one line why `data` is not a result of this schema."""
    try:
        content = json.loads(data.decode())
    except UnicodeDecodeError as problem:
        return f"corrupt: not UTF-8 (byte {problem.start})"
    except json.JSONDecodeError as problem:
        if data.strip() and not data.lstrip().startswith(b"{"):
            return "foreign: no JSON, so no result of ctbench"
        kind = "corrupt" if data.rstrip().endswith(b"}") else "truncated"
        return f"{kind}: not complete JSON (line {problem.lineno}, column {problem.colno})"
    except RecursionError:
        return "foreign: nested too deeply for a result"
    except ValueError:
        return "corrupt: a number of thousands of digits"
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        return "foreign: JSON, but no result of ctbench (it has no schema number)"
    if not {"matrix", "stream", "method"} & set(content):
        return "foreign: JSON, but no result of ctbench (it has neither a matrix nor a stream nor a method)"
    if content["schema"] != SCHEMA:
        age = "older" if content["schema"] < SCHEMA else "newer"
        return f"{age}: schema {content['schema']}, this version reads {SCHEMA}; run it again or use another version"
    first, *others = error.errors(include_url=False, include_input=False)
    where = ".".join(str(part) for part in first["loc"]) or "file"
    more = f" (and {len(others)} more)" if others else ""
    return one_line(f"corrupt: {where}: {first['msg']}{more}")


def _misfit(result: Result) -> str | None:
    """Return which part of `result` does not fit its domains and stages."""
    return (
        _misfit_of_stream(result.stream)
        or _misfit_of_shapes(result)
        or _misfit_of_plan(result)
        or _misfit_of_numbers(result)
    )


def _misfit_of_stream(stream: StreamRecord) -> str | None:
    """Return which part of the record of a stream does not fit its domains."""
    domains = set(stream.domains)
    if len(domains) < len(stream.domains):
        return "corrupt: stream.domains: a domain appears twice"
    for name in _BY_DOMAIN:
        table = getattr(stream, name)
        if table is not None and table.keys() != domains:
            return f"corrupt: stream.{name}: a value for each domain is needed, and for nothing else"
    return None


def _misfit_of_shapes(result: Result) -> str | None:
    """Return which table of `result` has a shape that does not fit the number of domains, T."""
    num_tasks = result.num_tasks
    shape = (num_tasks + 1, num_tasks)
    tables = {"matrix": result.matrix.shape, "lm_loss": result.lm_loss.shape}
    if result.lm_loss_error is not None:
        tables["lm_loss_error"] = result.lm_loss_error.shape
    widths = {len(row) for row in result.plan.cells} or {0}
    tables["plan.cells"] = (len(result.plan.cells), *widths)
    for name, found in tables.items():
        if found != shape:
            return f"corrupt: {name}: {num_tasks} domains ask for the shape {shape}, found {found}"
    for name in ("general_loss", "general_bits"):
        if len(getattr(result, name)) not in (0, num_tasks + 1):
            return f"corrupt: {name}: {num_tasks + 1} numbers are needed"
    control = result.control
    if control is not None and {len(control.scores), len(control.lm_loss)} != {num_tasks}:
        return f"corrupt: control: {num_tasks} numbers are needed"
    return None


def _misfit_of_plan(result: Result) -> str | None:
    """Return where the plan of `result` points to a stage that it does not have."""
    plan, count = result.plan, len(result.plan.stages)
    if len(plan.parents) != count:
        return "corrupt: plan.parents: one parent for each stage is needed"
    if any(not 0 <= parent < number for number, parent in enumerate(plan.parents, start=1)):
        return "corrupt: plan.parents: a stage starts from 0, the untouched LM, or from an earlier stage"
    if any(source is not None and not 0 <= source <= count for row in plan.cells for source in row):
        return f"corrupt: plan.cells: a stage outside 0..{count}"
    return None


def _misfit_of_numbers(result: Result) -> str | None:
    """Return which number of `result` is outside its range, or belongs to no place of the matrix."""
    domains = result.stream.domains
    lowest = {domain: result.stream.lowest(domain) for domain in domains}
    for cell in result.cells:
        if cell.domain not in domains or not 0 <= cell.row <= result.num_tasks:
            return f"corrupt: cells: no cell ({cell.row}, {one_line(cell.domain)}) in this stream"
        if cell.score is not None and not lowest[cell.domain] <= cell.score <= 1.0:
            return f"corrupt: cells: the score {cell.score} is outside [{lowest[cell.domain]:.0f}, 1]"
    if result.seed < 0 or result.order < 0:
        return "corrupt: seed and order are numbers from 0 on"
    if ((result.matrix < list(lowest.values())) | (result.matrix > 1.0)).any():
        return f"corrupt: matrix: a score is outside [{min(lowest.values()):.0f}, 1]"
    for stage in result.stages:
        if any(len(losses) != len(stage.steps) for losses in stage.losses.values()):
            return f"corrupt: stages: stage {stage.stage} logged {len(stage.steps)} points; every loss needs as many values"
        if any(len(losses) != len(stage.probe_steps) for losses in stage.probes.values()):
            return f"corrupt: stages: stage {stage.stage} was probed {len(stage.probe_steps)} times; as many losses are needed"
    return None


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
