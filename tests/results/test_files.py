from __future__ import annotations

import copy
import dataclasses
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_results import agreeing, fake_record, fake_result, write_fakes

from ctbench.errors import BadConfig, BadResult, MissingResult
from ctbench.results import writing
from ctbench.results.failures import FailureRecord
from ctbench.results.files import check_writable, load_results, read_result, read_results
from ctbench.results.format import result_from, to_record, to_text
from ctbench.results.writing import write_result


def test_a_written_result_is_read_back_unchanged(tmp_path: Path) -> None:
    result = fake_result("hyperprompt", shape="joint", changed={"method.agree_weight": 2.0})
    written = write_result(result, tmp_path)
    assert written.status == "new"
    assert written.path == tmp_path / "domain" / "tiny" / "hyperprompt" / f"{result.key[:16]}.json"
    back = read_result(written.path)
    assert back.path == written.path
    assert to_record(back) == to_record(result)
    assert np.array_equal(back.matrix, result.matrix, equal_nan=True)


def test_file_is_plain_json_in_full_precision(tmp_path: Path) -> None:
    record = fake_record("naive")
    record["matrix"][1][0] = 0.1 + 0.2
    record = agreeing(record | {"cells": []})
    path = write_result(result_from(record), tmp_path).path
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["matrix"][1][0] == 0.1 + 0.2
    assert "path" not in content
    assert list(content)[:3] == ["schema", "key", "stream"]


def test_missing_numbers_are_null_in_the_file_and_nan_in_memory() -> None:
    record = fake_record("naive")
    record["matrix"][2][3] = float("nan")
    record = agreeing(record | {"cells": []})
    record["stages"][0]["losses"]["loss"][5] = float("inf")
    result = result_from(record)
    assert np.isnan(result.matrix[2, 3])
    assert to_record(result)["matrix"][2][3] is None
    assert result.stages[0].losses["loss"][5] is None
    assert "NaN" not in to_text(result)


def test_the_matrix_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        fake_result().matrix[0, 0] = 1.0


def test_writing_equal_numbers_again_keeps_the_file(tmp_path: Path) -> None:
    record = fake_record("naive")
    first = write_result(result_from(record), tmp_path)
    before = first.path.read_bytes()
    record["provenance"]["date"] = "2027-01-01T00:00:00Z"
    record["stages"][0]["seconds"] = 99.0
    record["cells"][0]["seconds"] = 99.0
    second = write_result(result_from(record), tmp_path)
    assert (second.path, second.status) == (first.path, "same")
    assert first.path.read_bytes() == before


def test_comparable_run_replaces_a_file_that_was_not_comparable_but_not_vice_versa(tmp_path: Path) -> None:
    record = fake_record("naive")
    tried = record | {"changed": {"finetune.epochs": 2}, "not_comparable": ["finetune.epochs was set"]}
    first = write_result(result_from(tried), tmp_path)
    second = write_result(result_from(record), tmp_path)
    assert (second.path, second.status) == (first.path, "marked anew")
    assert read_result(first.path).not_comparable == ()
    third = write_result(result_from(tried), tmp_path)
    assert (third.path, third.status) == (first.path, "same")
    assert read_result(first.path).not_comparable == ()
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


def test_other_numbers_under_the_same_key_get_a_file_of_their_own(tmp_path: Path) -> None:
    record = fake_record("naive")
    first = write_result(result_from(record), tmp_path)
    record["matrix"][1][1] += 1e-12
    second = write_result(result_from(record), tmp_path)
    assert second.status == "differs"
    assert second.path.name == first.path.stem + "-2.json"
    again = write_result(result_from(record), tmp_path)
    assert (again.path, again.status) == (second.path, "same")


@pytest.mark.parametrize("changed", ["version", "protocol"])
def test_equal_numbers_under_another_protocol_get_a_file_of_their_own(tmp_path: Path, changed: str) -> None:
    record = fake_record("naive")
    first = write_result(result_from(record), tmp_path)
    if changed == "version":
        record["stream"]["version"] += 1
    else:
        record["protocol"] = "0" * 16
    second = write_result(result_from(record), tmp_path)
    assert second.path.name == first.path.stem + "-2.json"
    again = write_result(result_from(record), tmp_path)
    assert (again.path, again.status) == (second.path, "same")
    assert len(read_results(tmp_path).results) == 2


def test_an_incomplete_result_never_replaces_a_complete_one_that_is_written_in_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = FailureRecord(node="cell", key="", reason="it failed")
    failed = dataclasses.replace(fake_result(), failures=(failure,))
    path = write_result(failed, tmp_path).path
    follows, others = writing.what_follows, []

    def look(before, result):
        status = follows(before, result)
        if result.failures:
            others.append(threading.Thread(target=write_result, args=(fake_result(), tmp_path)))
            others[0].start()
            others[0].join(timeout=1.0)
        return status

    monkeypatch.setattr(writing, "what_follows", look)
    write_result(failed, tmp_path)
    others[0].join()
    assert not read_result(path).failures
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_broken_file_with_the_same_name_is_kept(tmp_path: Path) -> None:
    result = fake_result()
    path = write_result(result, tmp_path).path
    path.write_text("{")
    assert write_result(result, tmp_path).path.name == path.stem + "-2.json"
    assert path.read_text() == "{"


def test_writing_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = write_result(fake_result(), tmp_path).path
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    record = fake_record("naive")
    record["stream"]["name"] = "../../evil"
    record["method"]["name"] = "..."
    path = write_result(result_from(record), tmp_path / "results").path
    assert path.resolve().is_relative_to(tmp_path / "results")


def test_unreadable_files_are_reported_in_one_line_each(tmp_path: Path) -> None:
    good = write_result(fake_result(), tmp_path).path
    text = good.read_text()
    older = json.loads(text) | {"schema": 0}
    newer = json.loads(text) | {"schema": 3}
    lacking = {key: value for key, value in json.loads(text).items() if key != "matrix"}
    unusable = {
        "broken": "{not json}",
        "cut": text[: len(text) // 2],
        "empty": "",
        "foreign": '{"accuracy": 0.5}',
        "bench": '{"kind": "bench", "schema": 2, "training": []}',
        "prose": "# A heading",
        "lacking": json.dumps(lacking),
        "latin": b"\xff\xfe{}",
        "list": "[1, 2]",
        "newer": json.dumps(newer),
        "older": json.dumps(older),
    }
    for name, content in unusable.items():
        (tmp_path / f"{name}.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "notes.txt").write_text("not JSON, and not claimed to be")
    loaded = read_results(tmp_path)
    assert len(loaded.results) == 1
    assert len(loaded.skipped) == len(unusable)
    said = dict(zip(sorted(unusable), loaded.skipped, strict=True))
    for name, words in {
        "broken": "corrupt",
        "cut": "truncated",
        "empty": "truncated",
        "foreign": "foreign",
        "bench": "foreign: JSON, but no result of ctbench",
        "prose": "foreign: no JSON",
        "lacking": "corrupt: matrix: Field required",
        "latin": "not UTF-8",
        "list": "foreign",
        "newer": "newer: schema 3",
        "older": "older: schema 0",
    }.items():
        assert f"{name}.json: " in said[name]
        assert words in said[name]
        assert "\n" not in said[name]


def test_strict_rejects_the_first_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"schema": 1,')
    with pytest.raises(BadResult, match=r"cut\.json: truncated"):
        read_results(tmp_path, strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_unreadable_folder_is_reported(strict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fakes(tmp_path, methods=("naive", "replay"), seeds=1)
    scandir = os.scandir

    def closed(place: str) -> object:
        if str(place).endswith("naive"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr("os.scandir", closed)
    if strict:
        with pytest.raises(BadResult, match=r"naive: cannot be read \(Permission denied\)"):
            read_results(tmp_path, strict=True)
        return
    loaded = read_results(tmp_path)
    assert [result.method.name for result in loaded.results] == ["replay"]
    (line,) = loaded.skipped
    assert line.endswith("naive: cannot be read (Permission denied)")


def test_file_name_with_line_breaks_stays_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "two\nlines\x1b[31m.json").write_text("{}")
    (line,) = read_results(tmp_path).skipped
    assert "\n" not in line
    assert "\x1b" not in line


def test_missing_folder_holds_no_results(tmp_path: Path) -> None:
    assert read_results(tmp_path / "nowhere").results == ()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", "0", "seed: Input should be a valid integer"),
        ("matrix", [[0.5, 0.5]], r"matrix: 5 domains ask for the shape \(6, 5\)"),
        ("matrix", [[0.5], [0.5, 0.6]], "matrix: Value error, rows of equal length"),
        ("matrix", [["high"]], "only numbers or null"),
        ("matrix", [[10**400]], "a whole number is too large"),
        ("lm_loss", [[1.0]], "lm_loss: 5 domains"),
        ("extra", 1, "extra: Unexpected keyword"),
        ("key", "../x", "key: String should match pattern"),
        ("precision", None, "precision: Input should be a valid string"),
        ("seed", -5, "seed and order are numbers from 0 on"),
        ("matrix", [[17.5] * 5, *[[0.5] * 5] * 5], r"matrix: a score is outside \[0, 1\]"),
        ("control", {"scores": [0.1], "lm_loss": [0.1], "tokens": 5}, "control: 5 numbers are needed"),
    ],
)
def test_invalid_record_is_rejected_with_the_invalid_key(key: str, value: object, words: str) -> None:
    with pytest.raises(BadResult, match=words):
        result_from(fake_record() | {key: value})


@pytest.mark.parametrize("table", ["metric", "majority", "bayes", "num_test"])
def test_a_table_of_other_domains_than_those_of_the_stream_is_rejected(table: str) -> None:
    record = fake_record()
    domains = record["stream"]["domains"]
    value = "accuracy" if table == "metric" else 1
    record["stream"][table] = dict.fromkeys(domains, value)
    assert result_from(record).stream.domains == tuple(domains)
    for changed in (domains[1:], [*domains, "moon"]):
        record["stream"][table] = dict.fromkeys(changed, value)
        with pytest.raises(BadResult, match=rf"stream\.{table}: a value for each domain"):
            result_from(record)


def test_cells_outside_the_stream_are_rejected() -> None:
    record = fake_record()
    record["cells"][0]["domain"] = "moon"
    with pytest.raises(BadResult, match=r"no cell \(0, moon\)"):
        result_from(record)
    record = fake_record()
    record["cells"][0]["score"] = 1.5
    with pytest.raises(BadResult, match=r"the score 1\.5 is outside \[0, 1\]"):
        result_from(record)
    record = fake_record()
    record["plan"]["cells"][1][0] = 9
    with pytest.raises(BadResult, match=r"a stage outside 0\.\.5"):
        result_from(record)


def test_load_results_is_a_table_with_one_run_a_row(tmp_path: Path) -> None:
    write_fakes(tmp_path, methods=("naive", "replay"), seeds=2)
    table = load_results(tmp_path)
    assert len(table) == 4
    assert sorted(set(table["method"])) == ["naive", "replay"]
    assert table["F_Acc"].between(0.5, 1.0).all()
    first = table.iloc[0]
    assert first["F_Acc"] == pytest.approx(first["result"].matrix[-1].mean())


def test_load_results_warns_of_skipped_files_and_rejects_an_empty_folder(tmp_path: Path) -> None:
    write_fakes(tmp_path, methods=("naive",), seeds=1)
    (tmp_path / "x.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"skipped .*x\.json: foreign"):
        assert len(load_results(tmp_path)) == 1
    with pytest.raises(MissingResult, match="no results"):
        load_results(tmp_path / "nowhere")


def test_unwritable_folder_is_rejected_before_and_while_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadConfig, match="cannot be written"):
            check_writable(folder)
        with pytest.raises(BadConfig, match="cannot be written"):
            write_result(fake_result(), folder)
    check_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_folder_without_permission_is_rejected(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadConfig, match="Permission denied"):
        check_writable(tmp_path / "results")


def test_file_of_an_older_version_is_completed_and_never_reduced(tmp_path: Path) -> None:
    record = fake_record("naive")
    first = write_result(result_from(record), tmp_path)
    more = copy.deepcopy(record)
    for stage in more["stages"]:
        stage["rates"] = [1e-3] * len(stage["steps"])
    second = write_result(result_from(more), tmp_path)
    assert (second.path, second.status) == (first.path, "completed")
    assert write_result(result_from(record), tmp_path).status == "same"
    assert read_result(first.path).stages[0].rates[0] == 1e-3
    more["stages"][0]["rates"][0] = 2e-3
    assert write_result(result_from(more), tmp_path).status == "differs"


def write_odd(folder: Path) -> None:
    """Write a good result, and what else may have the name of one."""
    write_result(fake_result(), folder)
    text = json.dumps(fake_record())
    (folder / "digits.json").write_text(text.replace('"seed": 0', f'"seed": {"9" * 6001}'))
    (folder / "keys.json").write_text(json.dumps({"schema": 2, "matrix": []}))
    (folder / "deep.json").write_text("[" * 100_000)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "link.json").symlink_to("nowhere")
    with (folder / "huge.json").open("wb") as file:
        file.truncate(2**33)  # takes no space


def test_odd_files_hide_no_result_and_are_named_one_line_each(tmp_path: Path) -> None:
    write_odd(tmp_path)
    loaded = read_results(tmp_path)
    assert len(loaded.results) == 1
    said = {line.rpartition("/")[2].partition(".json: ")[0]: line.partition(".json: ")[2] for line in loaded.skipped}
    assert {"digits", "keys", "deep", "pipe", "link", "huge"} == said.keys()
    assert said["digits"] == "corrupt: a number of thousands of digits"
    assert said["pipe"] == "foreign: not a regular file"
    assert said["huge"].startswith("foreign: larger than 64 MB")
