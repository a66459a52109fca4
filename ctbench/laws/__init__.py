"""The laws that every method must keep, checked on a tiny stream and a tiny LM."""

from ctbench.laws.check import RUNS, Verdict, check_method, judge
from ctbench.laws.rules import LAWS, sentence

__all__ = ["LAWS", "RUNS", "Verdict", "check_method", "judge", "sentence"]
