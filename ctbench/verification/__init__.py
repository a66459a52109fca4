"""Compute a few nodes of somebody's result again, and say whether they agree."""
