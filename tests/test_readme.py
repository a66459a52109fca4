from __future__ import annotations

import re
import tomllib
from types import ModuleType

from readme import README, generated
from small_streams import write_stream

from ctbench.plugins import get_method


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def test_generated_parts_have_not_drifted():
    text = README.read_text(encoding="utf-8")
    assert "<!-- generated: methods -->" in text
    assert generated(text) == text, "run: python tests/readme.py"


def test_the_method_of_the_readme_loads(tmp_path):
    block = next(code for code in blocks("python") if "class" in code)
    (tmp_path / "mine.py").write_text(block, encoding="utf-8")
    assert get_method(str(tmp_path / "mine.py"), weight=1).settings() == {"weight": 1.0}


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    block = next(code for code in blocks("python") if "ctbench.run(" in code)
    asked = 'stream="domain", seed=range(3)'
    assert asked in block
    write_stream(tmp_path)
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
    assert get_stream(str(tmp_path / "mine.toml")).names == ("restaurant", "phone")
