"""What is to be done on the other side before a directory can be read (SPEC E4)."""
