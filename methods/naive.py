"""Naive: keep pre-training on each domain in turn.

The LM of the stage before is trained on the new text with the LM loss alone, nothing guards what it knew:

    L = L_lm(theta; x)

It is the lower bound that a method has to beat, and what most people do in practice (Gururangan et al. 2020,
arXiv:2004.10964, for a single domain).
"""

from __future__ import annotations

from typing import ClassVar

from ctbench import Method


class Naive(Method):
    """Pre-train on the new text, and nothing else."""

    paper: ClassVar[str] = "arXiv:2004.10964"
