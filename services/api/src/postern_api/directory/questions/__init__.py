"""Questions to a directory: a test of settings, and a look at its entries."""
