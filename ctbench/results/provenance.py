"""Where the numbers of a result come from: versions, machine, and the study that asked for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""How every record of a result file is checked."""


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """The study file that asked for a run; no number depends on it.

    Args:
        name: name of the study.
        digest: SHA-256 of its content without comments.
        changed: options that were given beside the file and replaced what it says.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    digest: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProvenanceRecord:
    """Versions and machine with which the numbers were computed, and the study that asked for them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    ctbench: str
    python: str = ""
    torch: str = ""
    transformers: str = ""
    platform: str = ""
    processor: str = ""
    num_cores: int | None = None
    git: str | None = None
    date: str = ""
    study: StudyRecord | None = None
