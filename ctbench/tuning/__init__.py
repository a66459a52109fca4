"""How the defaults of methods are chosen: a grid, a search on validation texts, a record."""
