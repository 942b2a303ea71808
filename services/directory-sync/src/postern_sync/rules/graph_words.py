"""What Microsoft's answers mean, in plain words: sign-in errors, permissions, when a secret ends (SPEC E1, E3)."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

# Needed, as application permissions, and what each of them is for.
PERMISSIONS: Final = {
    "Directory.Read.All": "the organisation",
    "User.Read.All": "users",
    "Group.Read.All": "groups",
    "GroupMember.Read.All": "members of groups",
}
_CODE: Final = re.compile(r"AADSTS(\d{4,7})")
_SIGN_IN: Final = {
    7000215: "The client secret is wrong. Copy the secret's value, not its id.",
    7000222: "The client secret has ended: make a new one and enter it here.",
    7000216: "A client secret or certificate is missing.",
    7000218: "A client secret or certificate is missing.",
    7000112: "The application is disabled in this tenant.",
    700016: "The application is not known in this tenant: check the client id and the tenant.",
    7000229: "The application has no service principal in this tenant: grant admin consent.",
    700027: "The certificate is not one that the application knows, or its signature does not fit.",
    700024: "The certificate's statement is outside of its time: a clock is wrong.",
    700030: "The certificate cannot be used: it has no subject name that is known.",
    90002: "The tenant is not known: check the tenant id, and the cloud.",
    900021: "The tenant is no tenant id or domain.",
    900023: "The tenant is no tenant id or domain.",
    900381: "The tenant belongs to another of Microsoft's clouds.",
    900382: "The tenant belongs to another of Microsoft's clouds.",
    50059: "The tenant is not known: check the tenant id.",
    53003: "A Conditional Access policy of the tenant refuses the sign-in.",
    65001: "Nobody has consented to the application: grant admin consent.",
    1002016: "The tenant refuses the encryption used for the sign-in.",
    500011: "Microsoft Graph is not available in this tenant.",
    50034: "The application's account is not known in this tenant.",
    700038: "The client id is not one.",
    90033: "Microsoft's sign-in service has a problem just now.",
    90055: "There were too many sign-ins just now.",
}
_PASSING: Final = frozenset({90033, 90055, 50196, 90006, 90012, 90024, 90043})


def sign_in_codes(*texts: str) -> list[int]:
    """The AADSTS numbers in an answer's texts."""
    return [int(code) for text in texts for code in _CODE.findall(text)]


def sign_in_words(codes: Iterable[int]) -> str:
    """What the first known of the numbers means; the number itself where none is known."""
    numbers = list(codes)
    for code in numbers:
        if code in _SIGN_IN:
            return f"{_SIGN_IN[code]} (AADSTS{code})"
    return f"Microsoft refused the sign-in (AADSTS{numbers[0]})." if numbers else "Microsoft refused the sign-in."


def passes(codes: Iterable[int]) -> bool:
    """Whether the trouble is one that goes away."""
    return any(code in _PASSING for code in codes)


def secret_end(credentials: object, secret: str, now: datetime) -> datetime | None:
    """When `secret`, which is good `now`, ends, of the secrets that an application has; None where that is not sure.

    Graph shows the first three letters of each. Where several fit, the first to end counts: a warning too early harms
    less than one too late.
    """
    found = [item for item in credentials if isinstance(item, Mapping)] if isinstance(credentials, list) else []
    fitting = [item for item in found if item.get("hint") and secret.startswith(str(item["hint"]))]
    if not fitting and len(found) == 1 and not found[0].get("hint"):
        fitting = found
    ends = [end for item in fitting if (end := _time(item.get("endDateTime"))) is not None]
    return min((end for end in ends if end > now), default=None)


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    # Graph writes seven digits after the second.
    text = re.sub(r"\.(\d{1,6})\d*", r".\1", value)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
