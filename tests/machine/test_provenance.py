"""What a result says about what it was computed with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import ctbench.machine.provenance
from ctbench.machine.provenance import provenance

ROOT = Path(__file__).parents[2]


def git(*args, cwd=ROOT):
    return subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_a_checkout_names_its_commit():
    assert (provenance()["git"] or "").removesuffix("-dirty") == git("rev-parse", "--short=12", "HEAD")


@pytest.mark.parametrize("is_edited", [False, True])
def test_an_edited_checkout_says_so_and_an_installed_package_has_no_commit(is_edited, tmp_path, monkeypatch):
    (tmp_path / "ctbench/machine").mkdir(parents=True)
    module = tmp_path / "ctbench/machine/provenance.py"
    module.write_text("")
    monkeypatch.setattr(ctbench.machine.provenance, "__file__", str(module))
    assert provenance()["git"] is None
    git("init", "-q", cwd=tmp_path)
    git("add", ".", cwd=tmp_path)
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "first", cwd=tmp_path)
    module.write_text("x = 1\n" * is_edited)
    assert provenance()["git"] == git("rev-parse", "--short=12", "HEAD", cwd=tmp_path) + "-dirty" * is_edited
