"""The LM of a row as an ordinary Hugging Face checkpoint."""
