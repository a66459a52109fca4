from __future__ import annotations

import re
import tomllib

from readme import README, generated

from ctbench.plugins import get_method


def test_generated_parts_have_not_drifted():
    text = README.read_text(encoding="utf-8")
    assert "<!-- generated: methods -->" in text
    assert generated(text) == text, "run: python tests/readme.py"


def test_the_method_of_the_readme_loads(tmp_path):
    block = next(
        code for code in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S) if "class" in code
    )
    (tmp_path / "mine.py").write_text(block, encoding="utf-8")
    assert get_method(str(tmp_path / "mine.py"), weight=1).settings() == {"weight": 1.0}


def test_the_stream_of_the_readme_is_valid(tmp_path):
    from ctbench.plugins import get_stream

    block = next(iter(re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.S)))
    tomllib.loads(block)
    (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    assert get_stream(str(tmp_path / "mine.toml")).names == ("restaurant", "phone")
