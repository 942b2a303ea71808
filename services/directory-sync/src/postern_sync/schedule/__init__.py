"""Which directories are due, and whose credentials end soon."""
