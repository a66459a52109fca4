"""Every format holds the same numbers, and what comes from results is escaped in each."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_results import fake_record, fake_result

from ctbench.report.compare import FORMATS, compare
from ctbench.report.html import render_report
from ctbench.report.tables import Cell, Table, csv_text, latex, latex_text, markdown, terminal
from ctbench.result_format import result_from
from ctbench.schema import Result

EVIL = r"=x|y *z* `q` _u_ <script>alert(1)</script> & 100% $m$ #h {b} ~t ^c \cmd" + "\n\x1b[31mred"
SPECIALS = "&%$#_{}~^\\["


def evil(seed: int = 0) -> Result:
    """A result with markup and LaTeX specials in every string that a table shows."""
    record = fake_record("naive", seed=seed, num_tasks=3)
    text = json.dumps(record)
    for index, domain in enumerate(record["stream"]["domains"]):
        text = text.replace(f'"{domain}"', json.dumps(f"d{index} {EVIL}"))
    record = json.loads(text)
    record["stream"] |= {"name": f"s {EVIL}", "summary": EVIL}
    record["method"] |= {"name": f"m {EVIL}", "summary": EVIL, "paper": EVIL, "settings": {EVIL: EVIL}}
    record["backbone"]["name"] = EVIL
    record["recipe"]["name"] = EVIL
    record["findings"] = [{"code": "odd", "message": EVIL}]
    record["changed"] = {f"method.{EVIL}": EVIL}
    for key in ("git", "processor", "platform", "torch"):
        record["provenance"][key] = EVIL
    return result_from(record)


EVILS = [evil(seed) for seed in range(2)]


@pytest.mark.parametrize("view", ["leaderboard", "transfer"])
@pytest.mark.parametrize("form", FORMATS)
def test_no_control_character_and_no_line_break_of_a_result_is_printed(form: str, view: str) -> None:
    text = compare(EVILS, view=view, against=None).render(form, explain=True)
    assert "\x1b" not in text
    assert not any(line.startswith("red") or line.startswith("[31mred") for line in text.splitlines())
    assert "script" in text, "the names are there"


@pytest.mark.parametrize("view", ["leaderboard", "transfer"])
def test_markdown_shows_markup_as_text(view: str) -> None:
    text = compare(EVILS, view=view).render("markdown")
    assert "<" not in text
    assert "&lt;script&gt;" in text
    for line in text.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            assert len(cells) == len(re.split(r"(?<!\\)\|", table_head(text, line))[1:-1])
    assert r"\*z\*" in text
    assert r"\`q\`" in text


def table_head(text: str, line: str) -> str:
    """The first line of the Markdown table that `line` stands in."""
    block = next(block for block in text.split("\n\n") if line in block.splitlines())
    return block.splitlines()[0]


@pytest.mark.parametrize("view", ["leaderboard", "transfer"])
def test_latex_holds_no_unescaped_special(view: str) -> None:
    text = compare(EVILS, view=view).render("latex")
    assert r"\textbackslash{}cmd" in text
    assert r"100\%" in text
    inner = re.sub(r"\\(begin|end)\{[a-z]+\}(\{[lr]+\})?|\\caption\{|\\textbf\{|\\\\$| & ", " ", text, flags=re.M)
    inner = re.sub(r"\$\\[a-zA-Z]+\$|\\[a-zA-Z]+\{\}", "", inner)
    assert not re.findall(r"(?<!\\)[%$#&~^_]", inner)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles(tmp_path: Path) -> None:
    body = compare(EVILS, against=None).render("latex", explain=True)
    lines = r"\let\toprule\hline\let\midrule\hline\let\bottomrule\hline"
    rules = rf"\IfFileExists{{booktabs.sty}}{{\usepackage{{booktabs}}}}{{{lines}}}"
    head = r"\documentclass{article}" + rules + "\\begin{document}\n"
    (tmp_path / "table.tex").write_text(head + body + "\\end{document}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-2000:]


def test_every_latex_special_is_escaped_alone() -> None:
    for letter in SPECIALS:
        assert latex_text(letter) != letter
    assert latex_text("plain text, 1.5") == "plain text, 1.5"


def test_csv_holds_no_formula_and_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(compare(EVILS).render("csv"))))
    assert len(rows) == 1
    assert rows[0]["backbone"].startswith("'=x|y")
    assert csv_text([["=1+1", "@x", "-1", "+1", "x", -1.5, None, float("nan")]]) == "'=1+1,'@x,'-1,'+1,x,-1.5,,\n"


def test_html_shows_markup_as_text() -> None:
    page = render_report(compare(EVILS))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 2, "the data and the program of the page"
    data = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in data
    assert json.loads(data)["group0"]["labels"][0].startswith("m =x|y")


def test_all_formats_hold_the_same_numbers_in_their_own_precision() -> None:
    found = compare([fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)])
    record = json.loads(found.render("json"))
    scores = {row["label"]: row["scores"] for row in record["tables"][0]["rows"]}
    for row in csv.DictReader(io.StringIO(found.render("csv"))):
        for name, score in scores[row["method"]].items():
            assert float(row[name]) == score["mean"]
            assert float(row[f"{name}_low"]) == score["low"]
            assert int(row[f"{name}_rank"]) == score["rank"]
        shown = f"{100 * scores[row['method']]['F_Acc']['mean']:.1f} ± "
        for form in ("table", "markdown"):
            assert shown in found.render(form)
        assert shown.replace("±", r"$\pm$") in found.render("latex")
    frame = found.frame()
    assert frame["F_Acc"].tolist() == [scores[label]["F_Acc"]["mean"] for label in frame["method"]]


def test_comparisons_stand_in_csv_and_json_too() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(6)]
    found = compare(results, metric="F_Acc", against="naive")
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(found.render("csv")))}
    (contrast,) = json.loads(found.render("json"))["tables"][0]["comparisons"]
    assert float(rows["replay"]["F_Acc_vs_difference"]) == contrast["difference"]
    assert float(rows["replay"]["F_Acc_vs_p_holm"]) == contrast["p_holm"] == 2 / 2**6
    assert rows["naive"]["F_Acc_vs_difference"] == ""


def test_a_planned_comparison_stands_in_csv_beside_the_others() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay", "hyperprompt") for seed in range(8)]
    found = compare(results, metric="F_Acc", against="naive", planned="replay:hyperprompt")
    row = next(row for row in csv.DictReader(io.StringIO(found.render("csv"))) if row["method"] == "replay")
    assert (row["F_Acc_vs_against"], row["F_Acc_planned_against"]) == ("naive", "hyperprompt")
    every = json.loads(found.render("json"))["tables"][0]["comparisons"]
    wanted = {each["second"]: each["difference"] for each in every if each["first"] == "replay"}
    assert float(row["F_Acc_vs_difference"]) == wanted["naive"]
    assert float(row["F_Acc_planned_difference"]) == wanted["hyperprompt"]
    assert (row["F_Acc_vs_p_holm"] != "", row["F_Acc_planned_p_holm"]) == (True, "")


TABLE = Table(
    title="a title of some words that is longer than the terminal is wide",
    columns=("key", "one", "two", "three"),
    rows=((Cell(text="a"), Cell(text="1.0", bold=True), Cell(text="2.0"), Cell(text="long text")),),
    notes=("a note of some words that is longer than the terminal is wide",),
)


def test_the_best_is_marked_in_every_format_for_people() -> None:
    assert "| **1.0** | 2.0 |" in markdown(TABLE)
    assert r"\textbf{1.0} & 2.0" in latex(TABLE)
    assert "1.0*" in terminal(TABLE).plain
    assert "2.0*" not in terminal(TABLE).plain


@pytest.mark.parametrize("width", [24, 30, 60])
def test_a_narrow_terminal_gets_blocks_of_columns_and_nothing_is_cut(width: int) -> None:
    text = terminal(TABLE, width=width).plain
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text for word in ("one", "two", "three", "1.0*", "2.0", "long text", "wide"))
    assert text.count("key") == (2 if width == 24 else 1)


def test_wide_letters_keep_columns_aligned() -> None:
    table = Table(
        title="", columns=("key", "n"), rows=((Cell(text="日本"), Cell(text="1")), (Cell(text="abcd"), Cell(text="2")))
    )
    from rich.cells import cell_len

    lines = terminal(table).plain.splitlines()[2:]
    assert len({cell_len(line) for line in lines}) == 1


def test_on_paper_a_leaderboard_comes_in_two_parts_that_hold_all_of_it() -> None:
    found = compare([fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)])
    (whole,), parts = found.tables(), found.tables(on_paper=True)
    assert len(parts) == 2
    assert {*parts[0].columns, *parts[1].columns} == set(whole.columns)
    assert max(len(part.columns) for part in parts) <= 12
    assert sorted(note for part in parts for note in part.notes) == sorted(whole.notes)
    for part in parts:
        for ours, theirs in zip(part.rows, whole.rows, strict=True):
            assert ours == tuple(theirs[whole.columns.index(name)] for name in part.columns)
    assert found.render("markdown").count("| method |") == found.render("latex").count("method & ") == 2


def test_definitions_are_printed_on_request() -> None:
    found = compare([fake_result("naive")], metric=["FWT_all"])
    for form in ("table", "markdown", "latex"):
        assert "finding constant-column" in found.render(form, explain=True)
        assert "finding constant-column" not in found.render(form)
    assert "mean over 1 ≤ i < j ≤ T of (R[i][j] - R[0][j])" in found.render("table", explain=True)
