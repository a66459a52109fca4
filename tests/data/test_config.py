from __future__ import annotations

import tomllib

from ctbench.data.config import read_toml

TOML = (
    '''\
# comment = 1
kind = "domain" # [not a table]
summary = """
fake = 1
[fake]
"""
numbers = [
  1, # ]
  2,
]
inline = { a = 1, b = [1,
  2] }
text = 'it'''
    + "'"
    + """
[base] # a table
tokens = 1
"quoted key" = 2
a.b.c = 3
[[domains]]
name = "x"
[domains.text]
path = "y # no comment"
[[domains]]
name = "z"
"""
)


def test_every_written_key_has_its_line(tmp_path):
    tomllib.loads(TOML)
    path = tmp_path / "x.toml"
    path.write_text(TOML)
    _, origin = read_toml(path, shown="x.toml")
    assert origin.lines == {
        ("kind",): 2,
        ("summary",): 3,
        ("numbers",): 7,
        ("inline",): 11,
        ("text",): 13,
        ("base",): 14,
        ("base", "tokens"): 15,
        ("base", "quoted key"): 16,
        ("base", "a", "b", "c"): 17,
        ("domains", 0): 18,
        ("domains", 0, "name"): 19,
        ("domains", 0, "text"): 20,
        ("domains", 0, "text", "path"): 21,
        ("domains", 1): 22,
        ("domains", 1, "name"): 23,
    }
    assert origin.place(("domains", 0, "text", "field")) == "x.toml:20"
    assert origin.place(("unheard",)) == "x.toml"
