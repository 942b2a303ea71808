"""What a background stack tells about itself: starting or ready, and its ports."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from postern_local.files import write_private


def write(directory: Path, phase: str, ports: Mapping[str, int]) -> None:
    """Replace the record."""
    entry = {"phase": phase, "pid": os.getpid(), "ports": dict(ports)}
    write_private(directory / "state.json", json.dumps(entry) + "\n")


def read(directory: Path) -> dict[str, Any]:
    """The record, empty where there is none."""
    try:
        entry = json.loads((directory / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}


def clear(directory: Path) -> None:
    """Take it back."""
    (directory / "state.json").unlink(missing_ok=True)
