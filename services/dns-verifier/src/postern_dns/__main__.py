"""`python -m postern_dns` runs the verifier; `python -m postern_dns settings` prints the effective settings."""

import sys

from postern_common.settings import describe, load
from postern_dns.app import run
from postern_dns.settings import DnsSettings


def main(arguments: list[str]) -> int:
    """Do what the command line asks; the exit status."""
    settings = load(DnsSettings)
    if arguments == ["settings"]:
        print(describe(settings))
        return 0
    if arguments:
        print("usage: python -m postern_dns [settings]", file=sys.stderr)
        return 64
    return run(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
