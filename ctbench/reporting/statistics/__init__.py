"""Intervals and paired tests over runs."""
