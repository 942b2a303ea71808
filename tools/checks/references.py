"""References to standards have one form, `RFC 5321 4.5.3`, so that a search for a section finds all that follows it."""

import re
from collections.abc import Iterator

from tools.checks.source import Finding, Source

_MENTION = re.compile(r"\bRFC[\s_-]*\d+(?:[\s,;:]*(?:§+|sections?\b|sec\.|s\.)?\s*\d+(?:\.\d+)*)?")
_FORM = re.compile(r"RFC \d{3,5}(?: \d+(?:\.\d+)*)?")


def rfc_references_have_one_form(source: Source) -> Iterator[Finding]:
    """A comment or docstring names a section as `RFC 5321 4.5.3`: no word between, no comma."""
    if not source.is_python or "RFC" not in source.text:
        return
    for start, text in (*source.comments(), *source.docstrings()):
        for match in _MENTION.finditer(text):
            mention = " ".join(match[0].split()).rstrip(",;: ")
            if not _FORM.fullmatch(mention) and not _only_lists_more(mention):
                line = start + text.count("\n", 0, match.start())
                yield Finding(source.path, line, f"{mention!r}: write it as `RFC 5321 4.5.3`")


def _only_lists_more(mention: str) -> bool:
    # "RFC 3464, 5 days" or "RFC 5321: 421": the number after the comma or colon is no section.
    return re.fullmatch(r"RFC \d{3,5}[,;:] \d+(?:\.\d+)*", mention) is not None
