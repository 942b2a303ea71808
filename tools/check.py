"""`make check`: the conventions that no linter knows.

One line a finding, `path:line: message`; exits 1 where there is one.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.checks import CHECKS, Finding, Source, tracked_sources

ROOT = Path(__file__).resolve().parent.parent


def findings(sources: Iterable[Source]) -> Iterator[Finding]:
    """All findings in `sources`; a module that does not parse is one."""
    for source in sources:
        try:
            for check in CHECKS:
                yield from check(source)
        except SyntaxError as error:
            yield Finding(source.path, error.lineno or 1, f"does not parse: {error.msg}")


def main(root: Path = ROOT) -> int:
    """Check every tracked file of the repository."""
    found = sorted(findings(tracked_sources(root)))
    for finding in found:
        print(finding)
    print(f"{len(CHECKS)} checks, {len(found)} findings", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
