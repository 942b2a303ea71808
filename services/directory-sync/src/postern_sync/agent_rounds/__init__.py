"""Directories that an agent reads: rounds that runs ask for, and what of them becomes the mirror (SPEC L4)."""
