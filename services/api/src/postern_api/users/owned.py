"""What a directory has of its users: changing it here would last until the next run (SPEC S2).

Only while a directory is read that has the user: of somebody who is gone from it, or of a directory that is switched
off, nothing is put back.
"""

from collections.abc import Mapping
from typing import Any, Final

from postern_api.http.problems import conflict
from postern_common.documents import UserSource

DIRECTORY_SOURCES: Final = frozenset({UserSource.LDAP.value, UserSource.ENTRA.value})
CODE: Final = "directory-has-it"
_FIELDS: Final = ("first_name", "last_name", "home_phone", "mobile", "company", "department", "notes")
# Microsoft Graph has no notes, and phones at home are not asked for.
_NOT_OF_ENTRA: Final = frozenset({"home_phone", "notes"})


def check_owned(directory: Mapping[str, Any] | None, user: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Refuse changes of what the directory has; `changes` are those of the stored user."""
    if directory is None or not _is_read(directory, user):
        return
    if str(user["external_id"]).startswith("addition:"):
        where = "It comes from an addition to the directory; change it there."
    else:
        where = "Change it there."
    if changes.get("email_key", user["email_key"]) != user["email_key"]:
        raise conflict(CODE, f"The directory has this user's primary address. {where}", pointer="/email")
    for name in _FIELDS:
        if changes.get(name, user[name]) != user[name] and _has(directory, name):
            raise conflict(CODE, f"The directory has this user's {name}. {where}", pointer=f"/{name}")
    kept = {alias["key"] for alias in changes.get("aliases", user["aliases"])}
    for alias in user["aliases"]:
        if alias["source"] == user["source"] and alias["key"] not in kept:
            message = (
                f"The directory has this user's alias {alias['address']}. Take it off there, or make an exception."
            )
            raise conflict(CODE, message, pointer="/aliases")


def _is_read(directory: Mapping[str, Any], user: Mapping[str, Any]) -> bool:
    is_there = user["directory_state"] in {"present", "disabled"}
    return bool(directory["enabled"]) and directory["provider"] == user["source"] and is_there


def _has(directory: Mapping[str, Any], name: str) -> bool:
    """Whether the field is read; an empty name of an attribute says that the directory has no such thing."""
    if directory["provider"] == "entra":
        return name not in _NOT_OF_ENTRA
    return bool(directory["ldap"]["attributes"].get(name) != "")
