"""Runs of directory synchronisation, and the decisions on their plans."""
