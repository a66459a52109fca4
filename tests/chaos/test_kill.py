"""A short version of `make chaos`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_a_run_that_is_killed_while_it_writes_checkpoints_ends_bit_for_bit_as_an_undisturbed_one() -> None:
    answer = chaos("--methods", "replay", "--parts", "short", "--kills", "2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.splitlines()[1].split()[:7] == ["replay,", "stages", "2", "2", "0", "0", "0"]


@pytest.mark.slow
def test_what_is_broken_on_purpose_is_noticed() -> None:
    answer = chaos("--parts", "controls")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "NOT NOTICED" not in answer.stdout
