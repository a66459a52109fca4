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
from fake_results import fake_record, fake_result, with_matrix, write_fakes

from ctbench.cli import main
from ctbench.findings import find
from ctbench.report.summary import matrix_table, provenance_table
from ctbench.result_format import result_from
from ctbench.results import write_result

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


def test_compare_and_show_are_silent_about_a_healthy_result(call: Call, filled: Path) -> None:
    path = next(filled.rglob("*.json"))
    assert "finding " not in call("compare")[1]
    assert "finding " not in call("show", str(path))[1]
    assert "finding constant-column" in call("compare --explain")[1], "as a definition"


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json"])
def test_every_format_goes_through_a_pipe_whole(call: Call, filled: Path, form: str) -> None:
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


def test_options_reach_the_comparison(call: Call, filled: Path) -> None:
    out = call("compare --metric F_Acc --method naive --method replay --planned replay:naive --confidence 0.9")[1]
    assert "90 % interval" in out
    assert "planned: one comparison declared beforehand" in out
    assert "A_Acc" not in out
    assert "--planned A:B" in refused(call("compare --planned replay"))
    assert "the view transfer has no tests" in refused(call("compare --view transfer --against naive"))


def test_unusable_files_are_named_in_one_line_each_or_refused(call: Call, filled: Path) -> None:
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


def test_a_folder_of_nothing_but_broken_files_says_so(call: Call, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_text("{}")
    assert "(1 files could not be used)" in refused(call("compare"))


def test_hidden_runs_are_told_on_standard_error(call: Call, filled: Path) -> None:
    write_result(fake_result("naive", changed={"pretrain.lr": 1.0}, protocol="1" * 16), filled)
    code, out, err = call("compare")
    assert code == 0
    assert err == "1 run hidden (not comparable: pretrain.lr was set); ctbench compare --all shows them\n"
    assert "pretrain.lr" not in out
    code, out, err = call("compare --all")
    assert err == ""
    assert "a table of its own: pretrain.lr was set" in out


def test_show_names_a_run_by_file_folder_or_beginning_of_its_key(call: Call, filled: Path) -> None:
    path = sorted(filled.rglob("*.json"))[0]
    key = json.loads(path.read_text())["key"]
    for name in (str(path), key[:8], key[:8].upper()):
        code, out, _ = call("show", name)
        assert code == 0
        assert f"key {key[:16]}" in out
    code, out, _ = call("show results/domain/tiny/naive")
    assert out.count("LM loss on held-out text") == 3
    assert isinstance(json.loads(call("show --json results/domain/tiny/naive")[1]), list)


def test_show_refuses_what_is_no_run(call: Call, filled: Path) -> None:
    assert "no result 'zz'" in refused(call("show zz"))
    assert "no result ''" in refused(call("show", ""))
    (filled / "empty").mkdir()
    assert "no results in the folder" in refused(call("show results/empty"))
    (filled / "broken.json").write_text("{")
    assert "1 files there cannot be used" in refused(call("show zz"))
    assert "broken.json: truncated" in refused(call("show results/broken.json"))
    record = fake_record("naive")
    for letter in "01":
        write_result(result_from(record | {"key": "abc" + letter * 61}), filled)
    assert "'abc' is the beginning of 2 keys" in refused(call("show abc"))
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
        "make it again: ctbench run --method naive --stream domain --model tiny --seed 7 --control",
    ):
        assert text in out, text


def test_show_says_what_it_cannot_name_and_which_score_the_majority_has() -> None:
    record = fake_record("mine", registered=False)
    assert "put it before their names" in "".join(provenance_table(result_from(record)).notes)
    assert "majority class" in str(matrix_table(result_from(record)).rows)
    record["stream"]["metric"] = dict.fromkeys(record["stream"]["metric"], "macro_f1")
    assert "majority, accuracy" in str(matrix_table(result_from(record)).rows)
    assert "put it before" not in "".join(provenance_table(fake_result()).notes)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot_writes_the_format_of_the_name(call: Call, filled: Path, suffix: str) -> None:
    code, out, _ = call(f"plot -o pictures/x.{suffix}")
    assert (code, out) == (0, f"pictures/x.{suffix}\n")
    start = Path(f"pictures/x.{suffix}").read_bytes()[:200]
    assert {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}[suffix] in start


def test_plot_names_its_file_after_stream_and_kind(call: Call, filled: Path) -> None:
    assert call("plot --kind anytime")[1] == "domain-anytime.png\n"
    assert Path("domain-anytime.png").is_file()


def test_ls_runs_takes_the_beginning_of_a_key(call: Call, filled: Path) -> None:
    key = fake_result("naive").key
    assert len(json.loads(call(f"ls runs {key[:10]} --json")[1])) == 1
    assert "no run whose key begins with 'xyz'" in refused(call("ls runs xyz"))


def test_plot_says_which_table_it_does_not_draw(call: Call, filled: Path) -> None:
    write_fakes(filled, methods=("naive",), protocol="0" * 16)
    code, out, err = call("plot")
    assert (code, out) == (0, "domain-matrix.png\n")
    assert err.startswith("not drawn: domain v1")
    assert "protocol 00000000 — a table of its own: another protocol" in err
    assert "give one or the other" in refused(call("plot abc --stream domain"))


def test_plot_refuses_what_it_cannot_draw(call: Call, filled: Path) -> None:
    assert "needs two methods" in refused(call("plot --kind difference --method naive"))
    assert ".png, .svg, .pdf" in refused(call("plot -o x.gif"))
    write_fakes(filled, methods=("naive",), stream="temporal")
    assert "name one with --stream" in refused(call("plot"))
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
    words = ("compare", "--against", "naive")
    shown = {colour: on_terminal(*words, width=width, colour=colour, folder=filled.parent) for colour in ("", "1")}
    assert "\x1b[1m" in shown[""]
    plain = shown["1"].replace("\r", "")
    assert "\x1b[3" not in plain
    plain = re.sub(r"\x1b\[[0-9;]*m", "", plain)
    assert max(map(len, plain.splitlines())) <= width
    for text in ("won/tied/lost", "forgetting ↓", "stores text", "p (Holm)"):
        assert text in plain


@pytest.mark.parametrize(
    ("what", "whole"), [("runs", ("seed", "order", "findings")), ("methods", ("arXiv:1902.00751",))]
)
def test_lists_keep_numbers_and_papers_whole_in_a_narrow_terminal(what: str, whole: tuple[str], filled: Path) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal("ls", what, width=60, colour="1", folder=filled.parent))
    assert max(len(line.strip("\r")) for line in plain.splitlines()) <= 60
    for text in whole:
        assert text in plain
    if what == "runs":
        heads, _, *rows = (line.split() for line in plain.splitlines() if line.strip())
        for row in rows:
            assert len(row) == len(heads)


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
