"""A shape small enough to bench in a test."""

from __future__ import annotations

from ctbench.speed.shapes import Shape
from ctbench.speed.work import Work

MICRO = Shape(name="micro", family="bert", layers=1, width=16, heads=2, vocabulary=120, length=32, batch=8)
WORK = Work(shape=MICRO, precision="fp32", threads=1, warmup=10, steps=10)
