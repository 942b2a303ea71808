"""Names of LDAP as settings hold them: attributes (RFC 4512 1.4) and distinguished names (RFC 4514 3)."""

import re
from typing import Final

_ATTRIBUTE: Final = r"(?:[A-Za-z][A-Za-z0-9-]*|(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+)"
_VALUE_CHARACTER: Final = r"(?:\\(?:[0-9A-Fa-f]{2}|[ \"#+,;<=>\\])|[^\\\"+,;<>\x00])"
_VALUE: Final = rf"(?:#(?:[0-9A-Fa-f]{{2}})+|{_VALUE_CHARACTER}*)"
_ASSERTION: Final = re.compile(rf" *(?:{_ATTRIBUTE}) *= *{_VALUE}")
MAX_ATTRIBUTE: Final = 100


def is_attribute(name: str) -> bool:
    """Whether `name` can be an attribute's: a keyword or an OID, with options behind semicolons (RFC 4512 2.5)."""
    return len(name) <= MAX_ATTRIBUTE and re.fullmatch(rf"{_ATTRIBUTE}(?:;[A-Za-z0-9-]+)*", name) is not None


def is_dn(text: str) -> bool:
    """Whether `text` is a distinguished name of one component or more."""
    place = 0
    while True:
        found = _ASSERTION.match(text, place)
        if found is None:
            return False
        place = found.end()
        if place == len(text):
            return True
        if text[place] not in ",+":
            return False
        place += 1
