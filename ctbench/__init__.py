"""A benchmark harness for continual pre-training of language models."""
