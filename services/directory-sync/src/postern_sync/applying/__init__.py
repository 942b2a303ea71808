"""Applying a stored plan, some hundred changes in one transaction."""
