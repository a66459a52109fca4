"""The two training loops: pre-training of a stage and fine-tuning of a cell."""
