"""`python -m postern_edge` runs the edge; `python -m postern_edge settings` prints the effective settings."""

import sys

from postern_common.settings import describe, load
from postern_edge.app import run
from postern_edge.settings import EdgeSettings


def main(arguments: list[str]) -> int:
    """Do what the command line asks; the exit status."""
    settings = load(EdgeSettings)
    if arguments == ["settings"]:
        print(describe(settings))
        return 0
    if arguments:
        print("usage: python -m postern_edge [settings]", file=sys.stderr)
        return 64
    return run(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
