"""`python -m postern_deletion` runs the scheduler; `python -m postern_deletion settings` prints its settings."""

import sys

from postern_common.settings import describe, load
from postern_deletion.app import run
from postern_deletion.settings import DeletionSettings


def main(arguments: list[str]) -> int:
    """Do what the command line asks; the exit status."""
    settings = load(DeletionSettings)
    if arguments == ["settings"]:
        print(describe(settings))
        return 0
    if arguments:
        print("usage: python -m postern_deletion [settings]", file=sys.stderr)
        return 64
    return run(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
