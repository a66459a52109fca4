"""The laws that every method keeps, tried in a tiny world."""

from ctbench.laws.rules import LAWS, RUNS, Verdict, check_method, judge, sentence

__all__ = ["LAWS", "RUNS", "Verdict", "check_method", "judge", "sentence"]
