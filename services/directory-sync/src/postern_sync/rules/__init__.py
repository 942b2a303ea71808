"""What is decided about a directory's entries, without any I/O."""
