"""`make docs`: writes the reference pages that follow from the code; `--check` names the stale ones."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.pages import PAGES, ROOT


def stale(root: Path, pages: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """The pages whose committed text is not what the code gives now, with the new text."""
    made = {name: make() for name, make in pages.items()}
    files = {name: root / name for name in made}
    return {
        name: text
        for name, text in made.items()
        if not files[name].is_file() or files[name].read_text(encoding="utf-8") != text
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the stale pages, or with `--check` name them and fail."""
    parser = argparse.ArgumentParser(prog="make docs", description="Write the pages that follow from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is stale")
    parser.add_argument("pages", nargs="*", help=f"only these of: {', '.join(PAGES)}")
    options = parser.parse_args(arguments)
    found = stale(ROOT, {name: PAGES[name] for name in options.pages or PAGES})
    for name, text in found.items():
        print(f"{name}: {'stale, run `make docs`' if options.check else 'written'}")
        if not options.check:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, encoding="utf-8")
    return 1 if found and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
