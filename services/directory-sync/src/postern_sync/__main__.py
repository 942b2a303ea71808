"""`python -m postern_sync` runs directory synchronisation; `python -m postern_sync settings` prints its settings."""

import sys

from postern_common.settings import describe, load
from postern_sync.app import run
from postern_sync.settings import SyncSettings


def main(arguments: list[str]) -> int:
    """Do what the command line asks; the exit status."""
    settings = load(SyncSettings)
    if arguments == ["settings"]:
        print(describe(settings))
        return 0
    if arguments:
        print("usage: python -m postern_sync [settings]", file=sys.stderr)
        return 64
    return run(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
