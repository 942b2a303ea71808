"""What may be written into a directory's settings: pure checks of names and filters."""
