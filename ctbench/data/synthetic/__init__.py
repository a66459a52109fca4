"""The synthetic language of the embedded streams."""
