"""A shape small enough to bench in a test."""

from __future__ import annotations

from ctbench.bench.loops import Work
from ctbench.bench.shapes import Shape

MICRO = Shape(name="micro", family="bert", layers=1, width=16, heads=2, vocabulary=120, length=32, batch=8)
WORK = Work(shape=MICRO, precision="fp32", threads=1, warmup=10, steps=10)
