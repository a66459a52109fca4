from __future__ import annotations

import json
import re
import shlex
import tomllib
from types import ModuleType

import pytest
from readme import PAGES, README, STREAMS, generated, streams
from small_streams import write_stream

from ctbench.cli import main


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_have_not_drifted(page):
    text = page.read_text(encoding="utf-8")
    assert "<!-- generated: " in text
    assert generated(text) == text, "run: python tests/readme.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_comment_tears_a_table(page):
    assert not re.search(r"^\|.*\n<!-- (?!end)|^<!-- end -->\n\|", page.read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("page", [*PAGES, STREAMS], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve()
            assert found.exists(), target
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.M) if anchor else []
            assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def test_the_reference_of_stream_keys_has_not_drifted():
    assert STREAMS.read_text(encoding="utf-8") == streams(), "run: python tests/readme.py"
    assert "`domains.task.test_fraction`" in streams()


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


def test_the_tutorial_leads_from_nothing_to_a_row_of_the_leaderboard(tmp_path, monkeypatch, capsys):
    """Its commands as they stand, `run` with a small budget."""
    block = next(code for code in blocks("console") if "new method" in code)
    commands = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    assert [command[0] for command in commands] == ["new", "check", "run", "run", "compare"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    budget = [arg for key, value in QUICK.items() for arg in ("--set", f"{key}={value}")]
    for command in commands:
        more = [*budget, "--workers", "0"] if command[0] == "run" else []
        assert main([*command, *more]) == 0, (command, capsys.readouterr().err)
    capsys.readouterr()
    assert main([*commands[-1], "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert {row["method"] for row in table["rows"]} == {"mine", "naive"}


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    block = next(code for code in blocks("python") if "ctbench.run(" in code)
    asked = 'stream="domain", seed=range(3)'
    assert asked in block
    write_stream(tmp_path, epochs="1", tokens="2_560")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    exec(block.replace(asked, 'stream="small.toml", seed=range(1), workers=0'), {})
    said = capsys.readouterr().out
    assert "A_Acc" in said
    assert "small v1 (unregistered stream)" in said
    assert (tmp_path / "matrix.png").stat().st_size > 1000
    assert len(list((tmp_path / "results").rglob("*.json"))) == 1


def test_public_names_stay_what_they_are_after_their_modules_are_imported():
    import ctbench
    import ctbench.api
    import ctbench.report.compare

    for name in ctbench.__all__:
        assert not isinstance(getattr(ctbench, name), ModuleType), name
        assert getattr(ctbench, name) is getattr(ctbench, name)


def test_the_pictures_of_the_readme_are_there():
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README.read_text(encoding="utf-8"))
    assert len(pictures) >= 3
    for picture in pictures:
        assert (README.parent / picture).read_bytes().startswith(b"\x89PNG")


def test_the_stream_of_the_readme_is_valid(tmp_path):
    from ctbench.plugins import get_stream

    block = blocks("toml")[0]
    tomllib.loads(block)
    (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    assert get_stream(str(tmp_path / "mine.toml")).names == ("kitchen", "garden")
