"""Every format holds the same numbers, and what comes from results is escaped in each."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fake_results import fake_record, fake_result

from ctbench import compare
from ctbench.errors import BadConfig
from ctbench.reporting.compare import FORMATS
from ctbench.reporting.latex import PACKAGES, distinct, latex, latex_text
from ctbench.reporting.page.html import render_report
from ctbench.reporting.tables import Cell, Table, csv_text, markdown, plain_text
from ctbench.results.format import result_from
from ctbench.results.schema import Result

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
def test_control_characters_and_line_breaks_of_results_are_not_printed(form: str, view: str) -> None:
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
    comment, _, text = text.partition("\n")
    assert comment == rf"% needs \usepackage{{{', '.join(PACKAGES)}}}"
    assert r"\textbackslash{}cmd" in text
    assert r"100\%" in text
    text = re.sub(r"\\begin\{tabular\}\{.*\}$", "", text, flags=re.M)  # columns of long texts have a width
    inner = re.sub(
        r"\\(begin|end)\{[a-z*]+\}|\\label\{[a-z0-9:-]+\}|\\caption\{|\\textbf\{|\\\\$| & ", " ", text, flags=re.M
    )
    inner = re.sub(r"\$(?:\\[a-zA-Z]+|-)\$|\\[a-zA-Z]+\{\}", "", inner)
    assert not re.findall(r"(?<!\\)[%$#&~^_]", inner)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def has_latex() -> bool:
    """Return whether LaTeX and the packages of the tables are there."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return all(subprocess.run(["kpsewhich", f"{name}.sty"], capture_output=True).returncode == 0 for name in PACKAGES)


def typeset(body: str, folder: Path, *, options: str = "") -> str:
    """Return the log of LaTeX over some tables; it must succeed."""
    head = rf"\documentclass[{options}]{{article}}\usepackage{{{','.join(PACKAGES)}}}" + "\\begin{document}\n"
    (folder / "table.tex").write_text(head + body + "\\end{document}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert answer.returncode == 0, answer.stdout[-2000:]
    return answer.stdout


@pytest.mark.skipif(not has_latex(), reason="no LaTeX with the packages of the tables on this machine")
def test_latex_compiles_and_a_resized_table_fits_the_page(tmp_path: Path) -> None:
    typeset(compare(EVILS, against=None).render("latex", explain=True), tmp_path)
    results = [fake_result(name, seed=seed) for name in ("naive", "a_method_of_a_long_name") for seed in range(3)]
    found = compare(results, columns="all")
    for options in ("", "twocolumn"):
        assert "Overfull" not in typeset(found.render("latex", resize=True), tmp_path, options=options)
    assert "Overfull" in typeset(found.render("latex"), tmp_path), "the log tells a table that is too wide"


def test_a_latex_table_has_caption_label_and_notes_and_spans_the_page_if_it_is_wide() -> None:
    results = [fake_result(name, seed=seed) for name in ("naive", "replay") for seed in range(3)]
    wide = compare(results).render("latex")
    assert wide.splitlines()[1] == r"\begin{table*}"
    assert "\\caption{domain v1" in wide
    assert "\\label{tab:domain-leaderboard}" in wide
    assert "\\begin{tablenotes}" in wide
    assert "resizebox" not in wide
    assert "resizebox" in compare(results).render("latex", resize=True)
    narrow = latex(replace(TABLE, notes=(), name=""))
    assert narrow.startswith("\\begin{table}\n")
    assert "\\label{tab:a-title-of-some-words" in narrow
    assert "tablenotes" not in narrow


@pytest.mark.parametrize(
    ("name", "begin"), [("x.md", "**"), ("x.tex", "% needs \\usepackage{array"), ("x.csv", "stream,"), ("x.json", "{")]
)
def test_a_comparison_is_saved_in_the_form_of_its_ending(name: str, begin: str, tmp_path: Path) -> None:
    found = compare([fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)])
    assert found.save(tmp_path / "new" / name).read_text("utf-8").startswith(begin)
    assert found.save(tmp_path / "y.data", "csv").read_text("utf-8").startswith("stream,")
    with pytest.raises(BadConfig, match=r"must end in \.txt, \.md, \.tex, \.csv, \.json"):
        found.save(tmp_path / "x.docx")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(BadConfig, match="is a folder"):
        found.save(tmp_path / "folder.md")


def test_tables_of_one_latex_file_have_a_label_each() -> None:
    tables = [replace(TABLE, name=name) for name in ("a", "a", "a-2", "b", "a")]
    assert [table.name for table in distinct(tables)] == ["a", "a-2", "a-2-2", "b", "a-3"]
    results = [
        fake_result(name, seed=seed, protocol=protocol) for name in ("x", "y") for seed in (0, 1) for protocol in "pq"
    ]
    text = compare(results).render("latex")
    labels = re.findall(r"\\label\{.*?\}", text)
    assert len(labels) == len(set(labels)) > 1


def test_hyphens_of_an_option_are_not_joined() -> None:
    assert latex_text("--all, ---") == "-{}-all, -{}-{}-"


def test_each_latex_special_is_escaped() -> None:
    for letter in SPECIALS:
        assert latex_text(letter) != letter
    assert latex_text("plain text, 1.5") == "plain text, 1.5"
    assert latex_text("[-1.5, +2], 1e-3, 2006-2009") == "{[}$-$1.5, +2{]}, 1e-3, 2006-2009"


def test_csv_escapes_formulas_and_reads_back() -> None:
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


def test_all_formats_hold_the_same_numbers_at_their_precision() -> None:
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


def test_csv_and_json_hold_the_comparisons() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(6)]
    found = compare(results, metric="F_Acc", against="naive")
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(found.render("csv")))}
    (contrast,) = json.loads(found.render("json"))["tables"][0]["comparisons"]
    assert float(rows["replay"]["F_Acc_vs_difference"]) == contrast["difference"]
    assert float(rows["replay"]["F_Acc_vs_p_holm"]) == contrast["p_holm"] == 2 / 2**6
    assert rows["naive"]["F_Acc_vs_difference"] == ""


def test_csv_holds_a_planned_comparison_next_to_the_others() -> None:
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


def test_best_value_is_marked_in_terminal_markdown_and_latex() -> None:
    assert "| **1.0** | 2.0 |" in markdown(TABLE)
    assert r"\textbf{1.0} & 2.0" in latex(TABLE)
    assert "1.0*" in plain_text(TABLE)
    assert "2.0*" not in plain_text(TABLE)


@pytest.mark.parametrize("width", [24, 30, 60])
def test_narrow_terminal_splits_columns_into_blocks_and_cuts_nothing(width: int) -> None:
    text = plain_text(TABLE, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text for word in ("one", "two", "three", "1.0*", "2.0", "long text", "wide"))
    assert text.count("key") == (2 if width == 24 else 1)


def test_text_of_a_column_is_wrapped_in_a_narrow_terminal() -> None:
    words = "words that are more than a narrow terminal can show in one line of letters"
    table = Table(
        title="t", columns=("key", "text"), rows=((Cell(text="a"), Cell(text=words)),), left=("text",), notes=()
    )
    lines = plain_text(table, width=40).splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines[4:]).split()) == f"a {words}"
    assert words in plain_text(table)


def test_wide_letters_keep_columns_aligned() -> None:
    table = Table(
        title="", columns=("key", "n"), rows=((Cell(text="日本"), Cell(text="1")), (Cell(text="abcd"), Cell(text="2")))
    )
    from rich.cells import cell_len

    lines = plain_text(table).splitlines()
    assert len({cell_len(line) for line in lines}) == 1


def test_on_paper_a_leaderboard_is_two_tables_with_the_same_cells() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)]
    found = compare(results, columns="standing,variance,cost,traits,findings")
    (whole,), parts = found.tables(), found.tables(on_paper=True)
    assert len(parts) == 2
    assert {*parts[0].columns, *parts[1].columns} == set(whole.columns)
    assert max(len(part.columns) for part in parts) <= 12
    assert sorted(note for part in parts for note in part.notes) == sorted(whole.notes)
    for part in parts:
        for ours, theirs in zip(part.rows, whole.rows, strict=True):
            assert ours == tuple(theirs[whole.columns.index(name)] for name in part.columns)
    assert found.render("markdown").count("| method |") == found.render("latex").count("method & ") == 2
    assert len(compare(results).tables(on_paper=True)) == 1, "nobody asked for more columns"


def test_definitions_are_printed_on_request() -> None:
    found = compare([fake_result("naive")], metric=["FWT_all"])
    for form in ("table", "markdown", "latex"):
        assert "finding constant-column" in found.render(form, explain=True)
        assert "finding constant-column" not in found.render(form)
    assert "mean over 1 ≤ i < j ≤ T of (R[i][j] - R[0][j])" in found.render("table", explain=True)
