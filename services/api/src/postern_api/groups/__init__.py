"""Distribution lists and groups, and who is in them."""
