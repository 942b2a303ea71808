"""Ways to directories."""
