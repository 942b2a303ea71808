"""The stored users of one customer, as a run compares them with the directory."""
