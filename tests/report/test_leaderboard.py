"""The leaderboard: what shares a table, what is ranked and bold, and what is refused."""

from __future__ import annotations

from fake_results import fake_record, fake_result

from ctbench.report.compare import compare
from ctbench.result_format import result_from
from ctbench.schema import Result


def with_cpu_seconds(method: str, seconds: float) -> Result:
    record = fake_record(method)
    return result_from(record | {"cost": record["cost"] | {"cpu_seconds": seconds}})


def test_time_is_cpu_time_where_every_row_has_it() -> None:
    (table,) = compare([with_cpu_seconds("naive", 7.0), with_cpu_seconds("replay", 75.0)]).tables()
    assert "time" not in table.columns
    place = table.columns.index("CPU time")
    assert sorted(row[place].text for row in table.rows) == ["1 min 15 s", "7.0 s"]


def test_time_is_wall_time_where_a_row_lacks_cpu_time() -> None:
    (table,) = compare([with_cpu_seconds("naive", 7.0), fake_result("replay")]).tables()
    assert "CPU time" not in table.columns
    place = table.columns.index("time")
    assert {row[place].text for row in table.rows} == {"30.5 s"}
