"""A Graph `$filter` as far as it can be judged without Graph: quotes, brackets and a comparison (BEHAVIOURS 3.8).

What it means, only Graph can tell: the test of the settings asks it.
"""

import re
from typing import Final

_TOKEN: Final = re.compile(r"'(?:[^']|'')*'|[()]|[^'()\s]+|\s+")
_COMPARES: Final = frozenset({"eq", "ne", "gt", "ge", "lt", "le", "in", "has"})
_FUNCTION: Final = re.compile(r"(?:startswith|endswith|contains|any|all)\(", re.IGNORECASE)
_OPTION: Final = re.compile(r"^\s*\$?filter\s*=", re.IGNORECASE)


def fault_of(text: str) -> str | None:
    """What is wrong with a `$filter`, in words; None where it may be one."""
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        return "control characters are not allowed"
    if _OPTION.match(text):
        return "give the expression only, without $filter="
    depth, at, is_comparing = 0, 0, _FUNCTION.search(text) is not None
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return "a quote is not closed; a quote inside of text is written twice"
        word, at = token.group(), token.end()
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth < 0:
            return "a bracket closes that was never opened"
        is_comparing = is_comparing or word in _COMPARES
    if depth:
        return "a bracket is not closed"
    return None if is_comparing else "there is no comparison, such as department eq 'Sales'"
