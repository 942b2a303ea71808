"""Decisions about a user's end; no clock, no database."""
