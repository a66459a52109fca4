"""Show results: comparisons, leaderboards, tables, plots and the HTML page."""
