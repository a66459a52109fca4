"""Tune the defaults of methods: a grid, a search on validation texts, a record of the trials."""
