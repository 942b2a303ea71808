"""Attributes of LDAP directories that hold secrets: no setting may have them read, or guessed by a filter (SPEC L4).

The API refuses such settings, and an agent beside a directory refuses them again, whoever asks.
"""

import re
from collections.abc import Mapping
from typing import Final

from postern_common.ldap_filter import ATTRIBUTE

# What names of secrets end with or hold, in lower case: passwords, their hashes and histories, keys, shared secrets.
_ENDS: Final = ("password", "passwd", "passphrase", "pass", "pwd", "rootpw", "secret", "hash", "mkey")
_HOLDS: Final = (
    "passwordhistory", "pwdhistory", "credential", "privatekey", "principalkey", "otpkey", "keypackage", "masterkey",
    "cleartextpassword", "encryptedpassword",
)  # fmt: skip
_OTHERS: Final = frozenset(
    {
        "userpkcs12",
        "trustauthincoming",
        "trustauthoutgoing",
        "initialauthincoming",
        "initialauthoutgoing",
        "currentvalue",
        "priorvalue",
        "olcsyncrepl",
        "olcdbidassertbind",
    }
)
_COMPARED: Final = re.compile(rf"\((?:(?P<name>{ATTRIBUTE})(?:[<>~]?=|:)|:)")


def secret_attribute(name: str) -> bool:
    """Whether an attribute may hold secrets. A number (OID) may stand for any attribute, so that it counts as one."""
    plain = name.partition(";")[0].strip().lower()
    return plain[:1].isdigit() or plain in _OTHERS or plain.endswith(_ENDS) or any(word in plain for word in _HOLDS)


def secret_compared(filter_text: str) -> str | None:
    """The first attribute in a filter that may hold secrets; a comparison with all attributes at once is one with them.

    The text is a whole filter: brackets stand in no value.
    """
    for found in _COMPARED.finditer(filter_text):
        if found["name"] is None:
            return "any attribute"
        if secret_attribute(found["name"]):
            return found["name"]
    return None


def secret_asked(attributes: Mapping[str, str], *filters: str) -> str | None:
    """The first attribute that may hold secrets among those that settings would have read or compared, or None."""
    read = next((name for name in attributes.values() if name and secret_attribute(name)), None)
    return read or next((found for text in filters if (found := secret_compared(text))), None)
