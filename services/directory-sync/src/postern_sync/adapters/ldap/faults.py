"""What went wrong with an LDAP server, in words for people (RFC 4511 4.1.9, appendix A).

A server's own text is never shown: it names hosts and modules. Of Active Directory's only the code behind `data` is
understood.
"""

import re
from dataclasses import dataclass
from typing import Final

SUCCESS: Final = 0
SIZE_LIMIT: Final = 4
NO_SUCH_OBJECT: Final = 32
NO_PAGING: Final = 12
_DATA: Final = re.compile(r"\bdata ([0-9a-f]{1,8})\b", re.IGNORECASE)

# [MS-ERREF] 2.2, as AcceptSecurityContext gives them in hexadecimal.
_SIGN_IN: Final = {
    "525": "There is no such user.",
    "52e": "The user name or the password is wrong.",
    "530": "The user may not sign in at this time.",
    "531": "The user may not sign in from here.",
    "532": "The user's password has expired.",
    "533": "The user's account is disabled.",
    "701": "The user's account has expired.",
    "773": "The user must change the password first.",
    "775": "The user's account is locked, after too many wrong passwords.",
}
_BIND: Final = {
    2: "The server refuses this way of signing in.",
    7: "The server refuses signing in with a password.",
    8: "The server takes passwords over an encrypted connection only: choose LDAPS or StartTLS.",
    13: "The server takes passwords over an encrypted connection only: choose LDAPS or StartTLS.",
    32: "There is no such user.",
    34: "The server does not understand the user's name: give a full DN, or for Active Directory name@domain.",
    48: "The server refuses signing in without a user and a password.",
    49: "The user name or the password is wrong.",
    50: "The user may not sign in.",
    53: "The server refuses this sign-in; the account may be locked, or signing in without a password forbidden.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`word` is stable, for records (`size_limit`); `step` is where in a test it belongs; `message` is public text."""

    word: str
    step: str
    message: str

    def __str__(self) -> str:
        return f"{self.word}: {self.message}"


class LdapFault(Exception):
    """The directory cannot be asked any further."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


_SEARCH: Final = {
    1: Fault("refused", "permission", "The server answers nobody who has not signed in."),
    2: Fault("protocol", "filter", "The server did not understand the question."),
    3: Fault("time_limit", "permission", "The server stopped for its time limit; entries are missing."),
    4: Fault("size_limit", "permission", "The server stopped at its size limit; entries are missing."),
    8: Fault("refused", "permission", "The server wants a stronger sign-in for this."),
    10: Fault("referral", "base_dn", "The server says that this part lies on another server, which is not asked."),
    11: Fault(
        "admin_limit",
        "permission",
        "The server refuses to give so many entries; try a smaller page size, or have the account's limit raised.",
    ),
    12: Fault("paging", "permission", "The server cannot give its entries page by page."),
    13: Fault("refused", "permission", "The server answers over an encrypted connection only."),
    18: Fault("filter", "filter", "The server cannot compare as the filter asks it to."),
    21: Fault("filter", "filter", "The server does not accept a value in the filter."),
    32: Fault("base_dn", "base_dn", "The base DN does not exist, or the account may not see it."),
    34: Fault("base_dn", "base_dn", "The server does not accept the base DN's form."),
    36: Fault("base_dn", "base_dn", "The base DN cannot be followed."),
    50: Fault("refused", "permission", "The account may not read this."),
    51: Fault("busy", "connect", "The server is busy."),
    52: Fault("unavailable", "connect", "The server is shutting down or not available."),
    53: Fault("refused", "permission", "The server refuses to do this search."),
}
LOST: Final = Fault("connection_lost", "connect", "The connection broke.")
SILENT: Final = Fault("timeout", "connect", "The server did not answer in time.")
SLOW: Final = Fault("too_slow", "connect", "The server sends so slowly that it was given up.")
OVERDUE: Final = Fault("timeout", "connect", "The directory could not be read in the time that it is given.")
GARBLED: Final = Fault("protocol", "connect", "What the server sent is no LDAP.")
TOO_LARGE: Final = Fault("too_large", "connect", "The server sent more than is taken.")
UNASKED: Final = Fault("too_large", "connect", "The server sent more entries than it was asked for.")
ABORTED: Final = Fault("aborted", "connect", "Reading was stopped.")
UNPAGED: Final = Fault("paging", "permission", "The server did not say whether there is more.")


def of_search(code: int) -> Fault:
    """What a search's result means."""
    return _SEARCH.get(code) or Fault("refused", "permission", f"The server answered with result {code}.")


def of_bind(code: int, diagnostic: str) -> Fault:
    """Why nobody could sign in; a server that cannot at the moment is no wrong password."""
    if code in {51, 52}:
        return _SEARCH[code]
    found = _DATA.search(diagnostic) if code == 49 else None
    reason = _SIGN_IN.get(found[1].lower()) if found is not None else None
    message = reason or _BIND.get(code) or f"The server refused the sign-in with result {code}."
    return Fault("bind", "bind", message)
