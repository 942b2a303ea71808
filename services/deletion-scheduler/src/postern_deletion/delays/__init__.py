"""Due times that follow a changed delay (SPEC S9)."""
