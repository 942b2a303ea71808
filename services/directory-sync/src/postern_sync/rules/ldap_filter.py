"""Search filters put together (RFC 4515): a tenant's filter inside ours, and what people type inside a value.

Whether a tenant's text is one filter, and where it is not, is `postern_common.ldap_filter`'s to say, for the API too.
"""

from typing import Final

from postern_common.ldap_filter import check_filter

ESCAPED: Final = frozenset("\\*()\x00")


def combine(*filters: str) -> str:
    """One filter that takes what all of them take; an empty one takes all. Raises `FilterError`.

    RFC 4526 2 calls `(&)` true and `(|)` false. Servers and libraries without it know both by `objectClass`, which
    every entry has. Brackets stand in no value, so that these are found nowhere else.
    """
    parts = [text for text in filters if text]
    for text in parts:
        check_filter(text)
    whole = parts[0] if len(parts) == 1 else f"(&{''.join(parts)})"
    return whole.replace("(&)", "(objectClass=*)").replace("(|)", "(!(objectClass=*))")


def escape(value: str) -> str:
    """A value that stands for itself within a filter (RFC 4515 3)."""
    return "".join(f"\\{ord(char):02x}" if char in ESCAPED else char for char in value)


def any_contains(attributes: tuple[str, ...], text: str) -> str:
    """A filter for entries where one of the attributes holds `text`; empty text is held by all that have one."""
    middle = f"*{escape(text)}*" if text else "*"
    return f"(|{''.join(f'({name}={middle})' for name in attributes)})"
