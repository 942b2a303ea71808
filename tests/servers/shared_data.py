"""Test data of other projects, used where it lies: it is no part of this repository, and tests go without it too.

`POSTERN_TEST_DATA` names its folder; else it is looked for in `shared/data` beside the repository.
"""

import os
from pathlib import Path

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared_data(name: str) -> Path | None:
    """A folder of it, or None where it is not there."""
    folder = Path(os.environ.get("POSTERN_TEST_DATA", _BESIDE)) / name
    return folder if folder.is_dir() else None
