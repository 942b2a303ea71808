r"""Distinguished names in one spelling, so that a group's member is found by its entry's own name (RFC 4514, RFC 4518).

Servers write the same name in different ways: `\,` or `\2C`, blanks around separators, any case. Matching here
ignores case and runs of blanks, as `caseIgnoreMatch` does, whatever an attribute's own rule: two entries that differ by
no more than that are not met in practice.
"""

import re
from typing import Final

_PLAIN: Final = re.compile(r'[^\\"+;<>#]*')
_HEX: Final = re.compile(r"[0-9A-Fa-f]{2}")
_SPECIAL: Final = re.compile(r'[\\,+"<>;#]')
_OPTIONAL_UID: Final = re.compile(r"#'[01]*'B$")


def normal_dn(text: str) -> str:
    """The name as members and entries are compared by."""
    if _PLAIN.fullmatch(text):
        return ",".join(_pair(*part.partition("=")[::2]) for part in text.lower().split(","))
    return ",".join("+".join(sorted(_pair(*pair) for pair in rdn)) for rdn in _parse(text))


def normal_member(text: str) -> str:
    """A member's name; behind it `uniqueMember` may have a bit string (RFC 4517 3.3.21)."""
    return normal_dn(_OPTIONAL_UID.sub("", text))


def first_value(dn: str) -> str:
    """The value of the first component, unescaped: an entry's own name within its folder."""
    if _PLAIN.fullmatch(dn):
        return dn.partition(",")[0].partition("=")[2].strip()
    return _parse(dn)[0][0][1].strip()


def _pair(name: str, value: str) -> str:
    plain = " ".join(value.lower().split())
    return f"{name.strip().lower()}={_SPECIAL.sub(lambda found: chr(92) + found[0], plain)}"


def _parse(text: str) -> list[list[tuple[str, str]]]:
    """Components, each a list of attribute and unescaped value; what is malformed is taken as it comes."""
    rdns: list[list[tuple[str, str]]] = [[]]
    name, value, at = "", bytearray(), 0
    in_value = quoted = False
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\" and at < len(text):
            if _HEX.match(text, at):
                value += bytes.fromhex(text[at : at + 2])
                at += 2
            else:
                value += text[at].encode("utf-8", "surrogatepass")
                at += 1
        elif char == '"':
            quoted = not quoted
        elif char == "=" and not in_value:
            in_value, name, value = True, value.decode("utf-8", "replace"), bytearray()
        elif char in ",;+" and not quoted:
            rdns[-1].append((name, value.decode("utf-8", "replace")))
            in_value, name, value = False, "", bytearray()
            if char != "+":
                rdns.append([])
        else:
            value += char.encode("utf-8", "surrogatepass")
    rdns[-1].append((name, value.decode("utf-8", "replace")))
    return rdns
