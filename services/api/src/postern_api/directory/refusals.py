"""Refusals of what needs a directory that is set up and switched on."""

from collections.abc import Mapping
from typing import Any

from postern_api.http.problems import Problem, conflict


def not_configured() -> Problem:
    """Nothing is set up."""
    return conflict("directory-not-configured", "Set up the directory first.")


def switched_off() -> Problem:
    """There are settings, and synchronisation was switched off."""
    message = "Synchronisation is switched off. Switch it on first, with a PUT of the settings and their secrets."
    return conflict("directory-off", message)


def check_on(directory: Mapping[str, Any] | None) -> None:
    """Refuse where no run could begin."""
    if directory is None:
        raise not_configured()
    if not directory["enabled"]:
        raise switched_off()
