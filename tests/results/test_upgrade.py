from __future__ import annotations

import json

import pytest
from fake_results import fake_record, fake_result

import ctbench
from ctbench.errors import BadResult
from ctbench.results.files import read_result
from ctbench.results.format import json_schema, result_from
from ctbench.results.upgrade import upgrade


def old_record():
    record = json.loads(json.dumps(fake_record("naive")))
    plan = record["plan"]
    plan["parents"] = ["BASE", *range(len(plan["stages"]) - 1)]
    plan["cells"] = [["BASE" if source == 0 else source for source in row] for row in plan["cells"]]
    record["backbone"].pop("weights_digest", None)
    return record | {"schema": 1}


def test_a_file_of_schema_1_loads_with_stages_from_1_and_an_unknown_base(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old_record()))
    result = read_result(path)
    assert result.schema == 2
    assert result.plan.parents == (0, 1, 2, 3, 4)
    assert set(result.plan.cells[0]) == {0}
    assert result.backbone.weights_digest == ""


@pytest.mark.parametrize("parents", [["BASE", "x"], ["BASE", None], 3, ["BASE", True]])
def test_a_damaged_file_of_schema_1_is_one_line(tmp_path, parents):
    record = old_record()
    record["plan"]["parents"] = parents
    path = tmp_path / "old.json"
    path.write_text(json.dumps(record))
    with pytest.raises(BadResult, match=r"old\.json"):
        read_result(path)


def test_upgrading_leaves_other_schemas_alone():
    record = fake_record("naive")
    assert upgrade(record) == record
    assert upgrade({"schema": 7}) == {"schema": 7}


@pytest.mark.parametrize("parents", [[0, 2, 1, 3, 4], [1, 1, 2, 3, 4], [-1, 1, 2, 3, 4]])
def test_a_stage_starts_from_an_earlier_one(parents):
    record = fake_record("naive")
    record["plan"]["parents"] = parents
    with pytest.raises(BadResult, match=r"plan\.parents"):
        result_from(record)


def test_runs_of_two_bases_share_no_table(tmp_path):
    for weights in ("a" * 64, "b" * 64, ""):
        for method in ("naive", "replay"):
            record = json.loads(json.dumps(fake_record(method)))
            record["backbone"]["weights_digest"] = weights
            (tmp_path / f"{method}-{weights[:1]}.json").write_text(json.dumps(record))
    found = ctbench.compare(tmp_path)
    assert [len(board.group.results) for board in found.boards] == [2, 2, 2]
    assert sum("another base" in board.group.title for board in found.boards) == 2
    for board in found.boards:
        assert len({result.backbone.weights_digest for result in board.group.results}) == 1


def test_the_published_schema_describes_the_file():
    schema = json_schema()
    assert set(schema["required"]) <= set(schema["properties"])
    assert schema["properties"]["matrix"]["items"]["items"] == {"type": ["number", "null"]}
    assert fake_result("naive").schema == 2
