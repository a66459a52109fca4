"""How methods and streams are found, described and created."""
