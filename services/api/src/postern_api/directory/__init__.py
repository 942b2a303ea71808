"""Runs of directory synchronisation."""
