"""Decisions about DNS answers and times; no network, no clock, no database."""
