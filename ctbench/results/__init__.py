"""Results: schema, files, metrics, checks and findings."""
