"""README and docs: what is generated is current, what is shown runs."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from dataclasses import replace
from types import ModuleType

import pytest
from build_docs import REPORT
from fake_results import fake_result
from readme import DOCS, README, ROOT, WHOLE, generated, pages
from reference_pages import table, torn_rows, typer_command
from results_page import current
from small_streams import write_stream

import ctbench
from ctbench.cli import main

EVERY = [
    README,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
]
GUIDE = DOCS / "guides" / "method.md"
STUDIES = DOCS / "guides" / "studies.md"


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def commands(text):
    """Return the calls of ctbench in the shell blocks of a page."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("ctbench ")]


# What is generated


@pytest.mark.parametrize("page", pages(), ids=name)
def test_generated_parts_have_not_drifted(page):
    text = page.read_text(encoding="utf-8")
    assert generated(text) == text, "run: make readme"


@pytest.mark.parametrize("page", WHOLE, ids=name)
def test_generated_pages_have_not_drifted(page):
    assert page.read_text(encoding="utf-8") == WHOLE[page](), "run: make readme"


def test_the_pages_with_generated_parts_are_found():
    assert {README, DOCS / "results.md", DOCS / "speed.md", GUIDE} <= set(pages())
    assert "## domains.task\n" in WHOLE[DOCS / "reference" / "stream.md"]()


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_no_table_is_torn(page):
    text = page.read_text(encoding="utf-8")
    assert torn_rows(text) == []
    assert not re.search(r"^\|.*\n<!-- (?!end)|^<!-- end -->\n\|", text, re.M)


@pytest.mark.parametrize("cell", ["two\nlines", "a | b"])
def test_a_torn_table_is_found_and_a_generated_one_is_whole(cell):
    torn = f"| key | meaning |\n| --- | --- |\n| `a` | {cell} |\n"
    assert torn_rows(torn) != []
    assert torn_rows(table(("key", "meaning"), [("`a`", cell)])) == []


# What is linked and shown


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_links_and_pictures_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http") and target != REPORT:  # of the report tests/test_site.py takes care
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), target
            assert found.is_relative_to(DOCS) or not page.is_relative_to(DOCS), f"{target} is not part of the site"
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.M) if anchor else []
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not anchor or anchor in anchors, target


def test_readme_is_short_begins_with_the_two_commands_and_shows_a_matrix():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line.split()[:2] for line in lines[:10] if line.startswith("    ")] == [["make", "demo"], ["make", "test"]]
    picture = re.search(r"!\[.+?\]\((.+?)\)", "\n".join(lines[:30]))[1]
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def check_command(words):
    """Parse a call as the command line does, computing nothing."""
    _, parameters = typer_command(words[1])
    options = {option for one in parameters for option in one.opts if option.startswith("-")} | {"--help", "--debug"}
    unknown = [word.partition("=")[0] for word in words[2:] if word.startswith("-")]
    assert set(unknown) <= options, words


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_commands_that_are_shown_exist_with_their_options(page):
    for words in commands(page.read_text(encoding="utf-8")):
        check_command(words)


def test_commands_of_rows_and_studies_exist_with_their_options():
    found = re.findall(r"`(ctbench (?:run|compare) [^`]+)`", (DOCS / "results.md").read_text(encoding="utf-8"))
    assert len(found) >= 9
    for text in found:
        check_command(shlex.split(text))


def test_a_command_that_does_not_exist_is_found():
    assert len(commands(README.read_text(encoding="utf-8"))) >= 4
    with pytest.raises(AssertionError):
        check_command(["ctbench", "run", "--metod", "naive"])


def test_promises_name_tests_that_exist():
    named = re.findall(r"`(test_\w+)`", (DOCS / "promises.md").read_text(encoding="utf-8"))
    known = {
        found
        for path in (ROOT / "tests").rglob("test_*.py")
        for found in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
    }
    assert len(named) > 20
    assert set(named) - known == set()


# What is run


QUICK = {
    "language.num_domains": "2",
    "language.num_documents": "100",
    "language.num_general_documents": "100",
    "language.num_held_out": "20",
    "language.num_train": "16",
    "language.num_validation": "0",
    "language.num_test": "20",
    "base.tokens": "2048",
    "pretrain.tokens": "2048",
    "finetune.epochs": "1",
    "finetune.seeds": "0",
}


@pytest.mark.slow
def test_the_tutorial_leads_from_nothing_to_a_row_of_the_leaderboard(tmp_path, monkeypatch, capsys):
    """Its commands as they stand, `run` with a small budget."""
    calls = [words[1:] for words in commands(GUIDE.read_text(encoding="utf-8"))[:5]]
    assert [call[0] for call in calls] == ["new", "check", "run", "run", "compare"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    budget = [arg for key, value in QUICK.items() for arg in ("--set", f"{key}={value}")]
    for call in calls:
        more = [*budget, "--workers", "0"] if call[0] == "run" else []
        assert main([*call, *more]) == 0, (call, capsys.readouterr().err)
    capsys.readouterr()
    assert main([*calls[-1], "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["tables"]
    assert {row["method"] for row in found["rows"]} == {"mine", "naive"}


def test_the_method_of_the_readme_keeps_all_laws(tmp_path, capsys):
    (block,) = [code for code in blocks(README, "python") if "class Mine" in code]
    (tmp_path / "mine.py").write_text(block, encoding="utf-8")
    assert main(["check", str(tmp_path / "mine.py")]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", [README, DOCS / "get-started.md"], ids=name)
def test_python_that_is_shown_runs(page, tmp_path, monkeypatch, capsys):
    block = next(code for code in blocks(page, "python") if "ctbench.run(" in code)
    asked = 'stream="domain", seed=range(3)'
    assert asked in block
    write_stream(tmp_path, epochs="1", tokens="2_560")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    exec(block.replace(asked, 'stream="small.toml", seed=range(1), workers=0'), {})
    said = capsys.readouterr().out
    assert "F_Acc" in said
    assert "small v1 (unregistered stream)" in said
    assert len(list((tmp_path / "results").rglob("*.json"))) == 1
    if "savefig" in block:
        assert (tmp_path / "matrix.png").stat().st_size > 1000


def test_python_and_study_of_the_page_on_many_runs_ask_for_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    for stream in ("one", "two"):
        write_stream(tmp_path, stream)
    (block,) = blocks(STUDIES, "python")
    study = blocks(STUDIES, "toml")[0]
    assert block.count("ctbench.run(") == 2
    streams = '["domain", "temporal"]', '["one.toml", "two.toml"]'
    (tmp_path / "first-look.toml").write_text(study.replace(*streams), encoding="utf-8")
    assert "These are 36 runs" in STUDIES.read_text(encoding="utf-8")
    found: list[int] = []
    plan = ctbench.plan
    monkeypatch.setattr(ctbench, "plan", lambda *args, **more: found.append(plan(*args, **more).num_runs))
    exec(block.replace("ctbench.run(", "ctbench.plan(").replace(*streams), {})
    assert found == [36, 12, 36]


def test_no_python_is_shown_that_no_test_runs():
    shown = {(name(page), block) for page in EVERY for block in blocks(page, "python")}
    run = [("README.md", "class Mine"), ("README.md", "ctbench.run("), ("docs/get-started.md", "ctbench.run(")]
    run += [(name(STUDIES), "ctbench.run(")]
    run += [(name(GUIDE), "class Mine")]  # generated from the template, which `ctbench new` writes
    assert {
        (page, block) for page, block in shown if not any(page == one and part in block for one, part in run)
    } == set()


def test_public_names_stay_what_they_are_after_their_modules_are_imported():
    import ctbench
    import ctbench.api
    import ctbench.reporting.compare

    for each in ctbench.__all__:
        assert not isinstance(getattr(ctbench, each), ModuleType), each
        assert getattr(ctbench, each) is getattr(ctbench, each)


def test_the_stream_of_the_guide_is_valid(tmp_path):
    from ctbench.plugins.find import get_stream

    block = blocks(DOCS / "guides" / "corpus.md", "toml")[0]
    tomllib.loads(block)
    (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    path = str(tmp_path / "mine.toml")
    assert get_stream(path).names == ("kitchen", "garden")
    tiny, checkpoint = (get_stream(path, recipe=name).recipe for name in ("default", "checkpoint"))
    assert max(checkpoint.pretrain.lr, checkpoint.finetune.lr) <= 5e-5 < min(tiny.pretrain.lr, tiny.finetune.lr)


def missing_paths(text):
    found = re.findall(r"(?<![\w./-])((?:tests|methods|ctbench|benchmarks)/[\w/.-]+\.(?:py|toml))", text)
    return [path for path in found if not (ROOT / path).is_file()]


@pytest.mark.parametrize(
    "page", [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name
)
def test_files_of_the_project_that_a_page_names_exist(page):
    assert missing_paths(page.read_text(encoding="utf-8")) == []


def test_a_file_that_does_not_exist_is_found():
    assert missing_paths("see `tests/nowhere.py` and methods/naive.py") == ["tests/nowhere.py"]


def test_the_api_page_names_every_public_name():
    import ctbench

    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert {name for name in ctbench.__all__ if f"ctbench.{name}" not in page} == set()


def test_tables_keep_the_newest_version_of_a_method_alone():
    one, two = fake_result("naive"), fake_result("naive")
    older = replace(two, method=replace(two.method, version=one.method.version - 1))
    changed = replace(one, changed={"method.weight": 2.0})
    assert current([one, older, changed]) == [one]
    assert current([older]) == [older]
