from __future__ import annotations

from ctbench.data.reference import describe_keys


def test_every_key_has_a_type_and_a_help_text():
    rows = {key: row for key, *row in describe_keys()}
    assert rows["pretrain.tokens"][:2] == ["whole number >= 1", "required"]
    assert rows["pretrain.lr"][:2] == ["number > 0, <= 1", "0.0001"]
    assert rows["finetune.seeds"][:2] == ["list of whole number >= 0", "[0, 1, 2]"]
    assert rows["kind"][0] == '"domain" or "temporal"'
    assert rows["language.seed"][1] == "0"
    assert "domains.task.train" in rows
    assert rows["domains.text"][2].endswith("Keys as of `general`.")
    assert "domains.text.path" not in rows
    assert rows["base"][2].endswith("Keys as of `pretrain`, and:")
    assert "base.tokens" not in rows
    assert "base.warmup" in rows
    assert all(kind and text.endswith((".", ")", ", and:")) for kind, _, text in rows.values())
