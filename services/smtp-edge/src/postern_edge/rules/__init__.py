"""Pure decisions of the edge: no I/O, no clock, nothing but their arguments."""
