"""The HTML report, a single self-contained file."""
