"""What an imported file means: encodings, delimiters, columns, cells, rows, outcomes. Nothing here has effects."""
