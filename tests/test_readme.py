from __future__ import annotations

import json
import re
import shlex
import tomllib
from types import ModuleType

from readme import README, STREAMS, generated, streams
from small_streams import write_stream

from ctbench.cli import main


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def test_generated_parts_have_not_drifted():
    text = README.read_text(encoding="utf-8")
    assert "<!-- generated: methods -->" in text
    assert generated(text) == text, "run: python tests/readme.py"


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
