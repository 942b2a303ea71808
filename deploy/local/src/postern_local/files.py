"""Files of a stack's folder, written whole or not at all, secret ones readable by their owner alone."""

import os
from pathlib import Path


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:  # never wider than `mode`
        file.write(text)
    fresh.replace(path)


def make_folder(directory: Path) -> None:
    """A stack's folder: its owner's alone, and ignored by git whatever its name. Others' folders stay."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists() and ((directory / "lock").exists() or not any(directory.iterdir())):
        write_text(ignore, "*\n")


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file that only its owner may read."""
    write_text(path, text, mode)
