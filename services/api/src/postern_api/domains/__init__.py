"""Domains and the proof of their ownership."""
