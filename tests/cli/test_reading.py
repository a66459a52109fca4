"""The commands that read results: compare, show, plot, report."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_results import agreeing, fake_record, fake_result, with_matrix, without_fine_tuning, write_fakes

from ctbench.cli import main
from ctbench.reporting.provenance import provenance_table
from ctbench.reporting.summary import answer, loss_table, matrix_table
from ctbench.reporting.tables import plain_text
from ctbench.results.findings import find
from ctbench.results.format import result_from
from ctbench.results.writing import write_result

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that calls the command line in a folder of its own and returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))

    def run(line: str, *more: str) -> tuple[int, str, str]:
        code = main([*line.split(), *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(answer: tuple[int, str, str]) -> str:
    code, out, err = answer
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    return line


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    write_fakes(tmp_path / "results", methods=("naive", "replay"), seeds=3)
    return tmp_path / "results"


def issue_10() -> dict:
    """The matrix of ContinualLM's issue 10 as a record, its findings stored as `run` stores them."""
    rows = [[0.79, 0.69, 0.62], [0.84, 0.70, 0.63], [0.8616, 0.7387, 0.6889], [0.8616, 0.7387, 0.6889]]
    record = with_matrix(fake_record("naive", num_tasks=3, num_seeds=3), rows)
    return record | {
        "findings": [{"code": f.code, "message": f.message} for f in find(result_from(record))],
    }


def test_compare_and_show_print_findings(call: Call, tmp_path: Path) -> None:
    path = write_result(result_from(issue_10()), tmp_path / "results").path
    assert "finding constant-column: " in call("compare")[1]
    assert "finding constant-column: rows 2, 3 come from different LMs" in call("show", str(path))[1]
    record = json.loads(call("compare --json")[1])
    assert record["tables"][0]["rows"][0]["findings"][0].startswith("constant-column: ")
    assert json.loads(call("show --json", str(path))[1])["findings"][0]["code"] == "constant-column"


def test_compare_and_show_print_no_finding_of_a_healthy_result(call: Call, filled: Path) -> None:
    path = next(filled.rglob("*.json"))
    assert "finding " not in call("compare")[1]
    assert "finding " not in call("show", str(path))[1]
    assert "finding constant-column" in call("compare --explain")[1], "as a definition"


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json"])
def test_no_format_is_cut_or_coloured_in_a_pipe(call: Call, filled: Path, form: str) -> None:
    code, out, err = call("compare --format", form)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    for text in ("naive", "replay"):
        assert text in out
    assert call("compare --view transfer --format", form)[0] == 0


def test_an_unknown_format_view_or_metric_is_one_line(call: Call, filled: Path) -> None:
    assert "did you mean 'markdown'" in refused(call("compare --format markdwn"))
    assert "did you mean 'transfer'" in refused(call("compare --view transfr"))
    assert "did you mean 'F_Acc'" in refused(call("compare --metric F_acc"))
    assert "did you mean 'replay'" in refused(call("compare --against repaly"))
    assert "did you mean 'anytime'" in refused(call("plot --kind anytme"))
    assert "did you mean 'seconds'" in refused(call("plot --kind cost --cost second"))


def test_a_picture_of_a_foreign_result_lies_in_the_current_folder(call: Call, tmp_path: Path) -> None:
    (tmp_path / "work" / "here").mkdir(parents=True)
    os.chdir(tmp_path / "work" / "here")
    record = fake_record("naive")
    record["stream"]["name"] = "../../outside"
    path = write_result(result_from(record), tmp_path / "results").path
    code, out, _ = call("plot --kind anytime", str(path))
    assert code == 0
    (picture,) = Path.cwd().iterdir()
    assert out.strip() == picture.name == "-..-outside-anytime.png"
    assert [*tmp_path.rglob("*.png")] == [picture]


def test_options_reach_the_comparison(call: Call, filled: Path) -> None:
    out = call("compare --metric F_Acc --method naive --method replay --planned replay:naive --confidence 0.9")[1]
    assert "90 % interval" in out
    assert "planned: one comparison declared beforehand" in out
    assert "A_Acc" not in out
    assert "--planned A:B" in refused(call("compare --planned replay"))
    assert "the view transfer has no tests" in refused(call("compare --view transfer --against naive"))


def test_unusable_files_are_named_in_one_line_each_and_refused_with_strict(call: Call, filled: Path) -> None:
    good = next(filled.rglob("*.json")).read_text()
    broken = {
        "corrupt.json": "{]}",
        "foreign.json": '{"accuracy": 1}',
        "older.json": json.dumps(json.loads(good) | {"schema": 0}),
        "truncated.json": good[:5000],
    }
    for name, text in broken.items():
        (filled / name).write_text(text)
    for line in ("compare", "plot -o x.svg", "report -o x.html", "ls runs"):
        code, out, err = call(line)
        assert code == 0
        assert out
        lines = err.splitlines()
        assert len(lines) == len(broken)
        for name, said in zip(sorted(broken), lines, strict=True):
            assert said.startswith("skipped ")
            assert f"{name}: {name.removesuffix('.json')}" in said
        assert line == "ls runs" or "corrupt.json" in refused(call(f"{line} --strict"))
    assert "foreign.json" in Path("x.html").read_text("utf-8"), "the page says what it lacks"


def test_a_folder_of_only_broken_files_is_reported(call: Call, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_text("{}")
    assert "(1 file could not be read: " in refused(call("compare"))


def test_hidden_runs_are_reported_on_standard_error(call: Call, filled: Path) -> None:
    write_result(fake_result("naive", changed={"pretrain.lr": 1.0}, protocol="1" * 16), filled)
    code, out, err = call("compare")
    assert code == 0
    assert err == "1 run hidden (not comparable: pretrain.lr was set); ctbench compare --all shows them\n"
    assert "pretrain.lr" not in out
    code, out, err = call("compare --all")
    assert err == ""
    assert "separate table: pretrain.lr was set" in out


def test_show_finds_a_run_by_file_folder_or_first_characters_of_its_key(call: Call, filled: Path) -> None:
    path = sorted(filled.rglob("*.json"))[0]
    key = json.loads(path.read_text())["key"]
    for name in (str(path), key[:8], key[:8].upper()):
        code, out, _ = call("show", name)
        assert code == 0
        assert f"key {key[:16]}" in out
    code, out, _ = call("show results/domain/tiny/naive")
    assert out.count("LM loss on held-out text") == 3
    assert isinstance(json.loads(call("show --json results/domain/tiny/naive")[1]), list)


def test_show_refuses_names_of_no_run(call: Call, filled: Path) -> None:
    assert "no result 'zz'" in refused(call("show zz"))
    assert "a name is empty" in refused(call("show", ""))
    (filled / "empty").mkdir()
    assert "no results in the folder" in refused(call("show results/empty"))
    (filled / "broken.json").write_text("{")
    assert "1 files there cannot be used" in refused(call("show zz"))
    assert "broken.json: truncated" in refused(call("show results/broken.json"))
    record = fake_record("naive")
    for letter in "01":
        write_result(result_from(record | {"key": "abc" + letter * 61}), filled)
    assert "'abc' begins 2 keys" in refused(call("show abc"))
    assert call("show abc0")[0] == 0


def test_show_holds_everything_about_a_run(call: Call, filled: Path) -> None:
    path = write_result(fake_result("naive", seed=7), filled).path
    out = call("show --explain", str(path))[1]
    for text in (
        "mean over 2 fine-tuning seeds",
        "[9",
        "majority class",
        "Bayes",
        "control",
        "Metrics",
        "mean over i ≥ 1 of R[i][i]",
        "Cost",
        "traits: none",
        "pretrain.tokens",
        "reproduce: ctbench run --method naive --stream domain --model tiny --seed 7 --control",
    ):
        assert text in out, text


def test_show_notes_unnamed_files_and_the_score_of_the_majority() -> None:
    record = fake_record("mine", registered=False)
    assert "without their path" in "".join(provenance_table(result_from(record)).notes)
    assert "majority class" in str(matrix_table(result_from(record)).rows)
    record["stream"]["metric"] = dict.fromkeys(record["stream"]["metric"], "macro_f1")
    assert "majority, accuracy" in str(matrix_table(result_from(record)).rows)
    assert "without their path" not in "".join(provenance_table(fake_result()).notes)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot_writes_the_format_of_the_name(call: Call, filled: Path, suffix: str) -> None:
    code, out, _ = call(f"plot -o pictures/x.{suffix}")
    assert (code, out) == (0, f"pictures/x.{suffix}\n")
    start = Path(f"pictures/x.{suffix}").read_bytes()[:200]
    assert {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}[suffix] in start


def test_plot_names_its_file_after_stream_and_kind(call: Call, filled: Path) -> None:
    assert call("plot --kind anytime")[1] == "domain-anytime.png\n"
    assert Path("domain-anytime.png").is_file()


def test_ls_runs_takes_the_first_characters_of_a_key(call: Call, filled: Path) -> None:
    key = fake_result("naive").key
    assert len(json.loads(call(f"ls runs {key[:10]} --json")[1])) == 1
    assert "no run whose key begins with 'xyz'" in refused(call("ls runs xyz"))


def test_plot_names_tables_that_it_does_not_draw(call: Call, filled: Path) -> None:
    write_fakes(filled, methods=("naive",), protocol="0" * 16)
    code, out, err = call("plot")
    assert (code, out) == (0, "domain-matrix.png\n")
    assert err.startswith("not drawn: domain v1")
    assert "protocol 00000000 — separate table: another protocol" in err
    assert "give one or the other" in refused(call("plot abc --stream domain"))


def test_plot_refuses_runs_that_one_picture_cannot_show(call: Call, filled: Path) -> None:
    assert "needs two methods" in refused(call("plot --kind difference --method naive"))
    assert ".png, .svg, .pdf" in refused(call("plot -o x.gif"))
    write_fakes(filled, methods=("naive",), stream="temporal")
    assert "choose one with --stream" in refused(call("plot"))
    assert not list(Path().glob("*.png"))
    assert call("plot --kind difference -m replay -m naive -s domain")[0] == 0


def test_report_is_one_file(call: Call, filled: Path) -> None:
    code, out, err = call("report -o pages/all.html")
    assert (code, out, err) == (0, "pages/all.html\n", "")
    assert [path.name for path in Path("pages").iterdir()] == ["all.html"]
    assert "2 tables" not in Path(out.strip()).read_text("utf-8")
    Path("file").write_text("")
    assert "cannot be written" in refused(call("report -o file/x.html"))


def test_reading_results_imports_neither_torch_nor_pandas(filled: Path) -> None:
    lines = ("compare", "report -o x.html", "plot -o x.png", "show results/domain/tiny/naive", "ls runs")
    code = (
        f"import sys; from ctbench.cli import main; codes = [main(line.split()) for line in {lines!r}];"
        "sys.exit(any(codes) or bool({'torch', 'transformers', 'pandas', 'scipy.stats'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=filled.parent, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    control = [sys.executable, "-c", "import sys, pandas; sys.exit('pandas' in sys.modules)"]
    assert subprocess.run(control).returncode == 1


def test_tables_fit_into_a_narrow_terminal(filled: Path) -> None:
    """In a real pseudo-terminal: nothing is wider than it, nothing is cut, and NO_COLOR is heeded."""
    width = 60
    words = ("compare", "--columns", "all")
    shown = {colour: on_terminal(*words, width=width, colour=colour, folder=filled.parent) for colour in ("", "1")}
    assert "\x1b[1m" in shown[""]
    plain = shown["1"].replace("\r", "")
    assert "\x1b[3" not in plain
    plain = re.sub(r"\x1b\[[0-9;]*m", "", plain)
    assert max(map(len, plain.splitlines())) <= width
    for text in ("won/tied/lost", "stores text", "no room for", "forgetting ↓"):
        assert text in plain
    every = on_terminal(
        "compare", "--metric", "anytime,A_Acc,O_Acc,F_Acc,BWT,gain", width=60, colour="1", folder=filled.parent
    )
    for text in ("A_Acc", "gain"):
        assert text in every, "what was asked for moves to another block of columns"
    assert "no room for 95 % interval" in every
    wide = on_terminal("compare", width=160, colour="1", folder=filled.parent)
    assert "forgetting ↓" in wide
    assert "no room" not in wide


@pytest.mark.parametrize(
    ("what", "whole"), [("runs", ("seed", "order", "findings")), ("methods", ("arXiv:1902.00751",))]
)
def test_lists_do_not_cut_numbers_and_papers_in_a_narrow_terminal(what: str, whole: tuple[str], filled: Path) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal("ls", what, width=60, colour="1", folder=filled.parent))
    assert max(len(line.strip("\r")) for line in plain.splitlines()) <= 60
    for text in whole:
        assert text in plain
    if what == "runs":
        for result in (fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)):
            assert plain.count(result.key[:12]) == plain.count("name "), "every block of columns names its rows"
            assert f"{100 * result.metrics['O_Acc']:.1f}" in plain
            assert result.provenance.date[:10] in plain


def test_ls_runs_lists_scores_settings_and_tells_checkpoints_of_one_name_apart(call: Call, filled: Path) -> None:
    (row, *_) = json.loads(call("ls runs --json")[1])
    assert {"date", "anytime", "F_Acc", "changed"} <= set(row)
    assert row["backbone"] == "tiny"
    record = fake_record("naive", changed={"method.x": 2})
    other = record | {"backbone": record["backbone"] | {"digest": "c0ffee" + "0" * 58}, "key": "e" * 64}
    write_result(result_from(other), filled)
    rows = {row["name"]: row for row in json.loads(call("ls runs --json")[1])}
    assert rows["e" * 12]["backbone"] == "tiny (c0ffee)"
    assert rows["e" * 12]["changed"] == "method.x=2"
    names = {row["backbone"] for row in rows.values()}
    assert len(names) == 2


def test_ctbench_alone_and_h_print_the_help(call: Call) -> None:
    for line in ("", "-h", "--help"):
        code, out, err = call(line)
        assert (code, err) == (0, "")
        assert "compare" in out
    code, out, err = call("compare -h")
    assert (code, err) == (0, "")
    assert "--columns" in out


def test_completion_knows_commands_and_options() -> None:
    def complete(words: str, place: int) -> list[str]:
        asked = {"_CTBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        command = [sys.executable, "-c", "import sys; from ctbench.cli import main; sys.exit(main([]))"]
        answer = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True)
        return answer.stdout.split()

    assert complete("ctbench co", 1) == ["compare"]
    assert complete("ctbench compare --view", 2) == ["--view"]
    assert complete("ctbench xy", 1) == []


def test_compare_writes_a_file_in_the_form_of_its_ending(call: Call, filled: Path) -> None:
    assert call("compare -o tables/x.tex --resize") == (0, "tables/x.tex\n", "")
    assert "resizebox" in Path("tables/x.tex").read_text("utf-8")
    assert call("compare -o x.dat --format csv")[0] == 0
    assert Path("x.dat").read_text("utf-8").startswith("stream,")
    assert "table 'x.doc': the name must end in" in refused(call("compare -o x.doc"))
    assert not Path("x.doc").exists()


def test_compare_on_losses_and_unknown_columns(call: Call, filled: Path) -> None:
    code, out, _ = call("compare --on loss --metric A_Acc,forgetting --columns tokens")
    assert code == 0
    assert "learned ↓" in out
    assert "tokens" in out
    assert "A_Acc" not in out
    assert "did you mean 'traits'" in refused(call("compare --columns trait"))
    assert "did you mean 'loss'" in refused(call("compare --on losses"))
    assert "did you mean 'learned'" in refused(call("compare --on loss --metric learnt"))
    assert call("plot --kind matrix --on loss")[1] == "domain-matrix-loss.png\n"


def test_a_run_answers_in_about_thirty_lines_and_says_where_its_result_is(tmp_path: Path) -> None:
    written = write_result(fake_result("naive"), tmp_path)
    text = "".join(plain_text(table) for table in answer([fake_result("naive")], places=[str(written.path)]))
    assert len(text.splitlines()) <= 36
    assert f"result: {written.path}" in text
    assert "Provenance" not in text
    assert "LM loss on held-out" not in text
    several = [fake_result("naive", seed=seed) for seed in range(5)]
    (table,) = answer(several)
    assert [row[0].text for row in table.rows] == [result.key[:12] for result in several]
    assert len(list(answer(several[:2]))) == 3, "two matrices and one table of metrics"


def test_show_says_over_how_many_fine_tuning_seeds_a_score_is_a_mean() -> None:
    def told(*domains: str) -> str:
        record = without_fine_tuning(fake_record("naive", num_tasks=2), *domains)
        return matrix_table(result_from(agreeing(record))).notes[0]

    assert told().startswith("accuracy in %, mean over 2 fine-tuning seeds: [")
    words = "accuracy in %, mean over 2 fine-tuning seeds (without fine-tuning: kitchen): ["
    assert told("kitchen").startswith(words)
    assert told("harbour", "kitchen").startswith("accuracy in %, without fine-tuning: [")


def test_show_tells_sampling_errors_and_the_majority_in_the_tasks_own_metric() -> None:
    record = fake_record("naive", num_tasks=2)
    first, second = record["stream"]["domains"]
    record["stream"] |= {
        "metric": {first: "accuracy", second: "macro_f1"},
        "baseline": {first: 0.13, second: 0.04},
        "num_test": {first: 400, second: 100},
        "num_predicted": {first: 5000, second: 12},
    }
    record["lm_loss_error"] = [[0.01, 0.02]] * 3
    result = result_from(record)
    table = matrix_table(result, details=True)
    lines = {row[0].text: [cell.text.strip() for cell in row[1:]] for row in table.rows}
    assert table.columns == ("%", f"{first}, accuracy", f"{second}, macro-F1")
    assert lines["majority class"] == ["13.0", "4.0"]
    assert lines["test texts"] == ["400", "100"]
    score = float(result.matrix[-1][0])
    assert lines["sampling error"][0] == f"± {100 * (score * (1 - score) / 400) ** 0.5:.1f}"
    assert "sampling error" not in str(matrix_table(result).rows)
    losses = loss_table(result)
    assert losses.rows[0][2].text.endswith(" ± 0.020")
    assert [cell.text for cell in losses.rows[-1]] == ["predicted tokens", "5k", "12"]
    assert "±" not in str(loss_table(fake_result()).rows), "an older result does not know them"


def on_terminal(*words: str, width: int, colour: str, folder: Path) -> str:
    """Return what a command prints on a real pseudo-terminal, and make sure that it succeeds."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": colour}
    command = [sys.executable, "-m", "ctbench", *words]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b"".join(iter(lambda: read(master), b"")).decode()
    assert process.wait() == 0
    os.close(master)
    return shown


def read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end was closed
        return b""


def test_names_in_lists_begin_where_their_heading_does_and_a_duel_is_one_block(call: Call, filled: Path) -> None:
    from ctbench import compare, ls
    from ctbench.reporting.tables import plain_text

    table = ls("runs", results=filled).table()
    columns = plain_text(table).splitlines()[0]
    for row, line in zip(table.rows, plain_text(table).splitlines()[2:], strict=True):
        assert line.index(row[3].text) == columns.index("method")
    (duel,) = compare(filled, against="naive", metric="anytime").tables()
    narrow = plain_text(duel, width=80)
    assert narrow.count("compared with") == 1
    assert "no room for won/tied/lost: widen the terminal, or write a file (--output)" in " ".join(narrow.split())


def test_settings_that_were_changed_are_one_line(call: Call, filled: Path) -> None:
    changed = {"base.lr": 1.0, "pretrain.lr": 1.0, "pretrain.tokens": 5}
    write_result(fake_result("naive", changed=changed, protocol="1" * 16), filled)
    words = "base.lr, pretrain.lr and pretrain.tokens were set"
    assert f"1 run hidden (not comparable: {words})" in call("compare")[2]
    assert f"separate table: {words}" in call("compare --all")[1]
    (path,) = (each for each in filled.rglob("*.json") if '"pretrain.tokens": 5' in each.read_text())
    assert call(f"show {path}")[1].count("not on the leaderboard: ") == 1
