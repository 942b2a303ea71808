"""From an object of Microsoft Graph to an entry, and what a change does to an object (SPEC E2, BEHAVIOURS 3.5, 3.7).

Graph names the properties that changed: one that is missing stays as it was, one that is null is empty now. Never
fails: what has another type than it should is left out.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from postern_sync.rules.entries import Entry, Mailbox
from postern_sync.rules.ldap_addresses import Found, find_addresses
from postern_sync.rules.ldap_mapping import MAX_LINE

Properties = Mapping[str, Any]
Removed = Literal["soft", "hard"]

# `proxyAddresses` and `accountEnabled` come only where they are asked for. homePhone and notes are unknown to Graph.
USER_SELECT: Final = (
    "id", "mail", "proxyAddresses", "userPrincipalName", "accountEnabled", "givenName", "surname", "mobilePhone",
    "businessPhones", "companyName", "department", "userType", "assignedLicenses", "onPremisesImmutableId",
)  # fmt: skip
GROUP_SELECT: Final = ("id", "displayName", "mail", "proxyAddresses", "mailEnabled", "groupTypes", "securityEnabled")
MEMBERS: Final = "members@delta"
MEMBER_TYPES: Final = frozenset({"#microsoft.graph.user", "#microsoft.graph.group"})
REMOVED: Final = "@removed"
# Since when a user was missing from the filtered list though the directory has them; no name of Graph's begins so.
MISSED: Final = "@missed"
OUT_OF_FILTER: Final = "filter"
_OUT: Final = "@out"
_FIELDS: Final = {
    "first_name": "givenName",
    "last_name": "surname",
    "mobile": "mobilePhone",
    "company": "companyName",
    "department": "department",
}
_ROUTING_DOMAIN: Final = ".onmicrosoft.com"
NO_ACCOUNT_STATE: Final = "accountEnabled is missing"


def merged(known: Properties | None, found: Properties, select: tuple[str, ...]) -> dict[str, Any]:
    """What is known of an object, with what has changed."""
    return {**(known or {}), **{name: found[name] for name in select if name in found and name != "id"}}


def whole(known: Properties | None, found: Properties, select: tuple[str, ...]) -> dict[str, Any]:
    """An object that is read anew: Graph leaves out what was never set. An account's state always is: where it is
    missing, what is known of it stays.
    """
    unset: dict[str, Any] = {name: None for name in select if name not in {"id", "accountEnabled"}}
    if known is not None and isinstance(known.get("accountEnabled"), bool):
        unset["accountEnabled"] = known["accountEnabled"]
    return merged(unset, found, select)


def removal(found: Properties) -> Removed | None:
    """Whether, and how, the directory has removed it: `changed` can come back for 30 days, `deleted` is gone."""
    marked = found.get(REMOVED)
    if not isinstance(marked, Mapping):
        return None
    return "hard" if marked.get("reason") == "deleted" else "soft"


def missed(properties: Properties, since: str, *, is_out: bool) -> dict[str, Any]:
    """Of a user whom the filtered list left out though the directory has them: since when, and whether it counts."""
    return {**properties, MISSED: since, **({_OUT: True} if is_out else {})}


def is_out_of_filter(properties: Properties) -> bool:
    """Whether a user has left the filter for good."""
    return bool(properties.get(_OUT))


def user_entry(entry_id: str, properties: Properties, removed: Removed | None, managed: frozenset[str]) -> Entry:
    """A person. `managed` are the customer's domains: a guest with a mail address there is none."""
    addresses = _addresses(properties, managed)
    enabled = properties.get("accountEnabled")
    is_known = isinstance(enabled, bool)
    faults = addresses.faults if is_known or removed else (*addresses.faults, NO_ACCOUNT_STATE)
    sign_in = _text(properties, "userPrincipalName")
    is_guest = _text(properties, "userType").lower() == "guest" or "#ext#" in sign_in.lower()
    excluded = None
    if is_guest and (addresses.primary is None or addresses.primary.domain not in managed):
        excluded = "guest"
    elif is_out_of_filter(properties):
        excluded = OUT_OF_FILTER
    return Entry(
        id=entry_id,
        id_kind="graph_id",
        immutable_id=_text(properties, "onPremisesImmutableId") or None,
        name=sign_in or _text(properties, "mail") or entry_id,
        kind="user",
        is_disabled=enabled is False,
        primary=addresses.primary,
        aliases=addresses.aliases,
        fields={ours: _text(properties, theirs) for ours, theirs in _FIELDS.items() if theirs in properties},
        refs=(entry_id,),
        faults=faults,
        excluded=excluded,
        removed=removed,
    )


def group_entry(entry_id: str, properties: Properties, removed: Removed | None, managed: frozenset[str]) -> Entry:
    """A distribution list, or any group that takes mail."""
    addresses = _addresses(properties, managed)
    title = _text(properties, "displayName")
    return Entry(
        id=entry_id,
        id_kind="graph_id",
        immutable_id=None,
        name=title or entry_id,
        kind="list",
        is_disabled=False,
        primary=addresses.primary,
        aliases=addresses.aliases,
        fields={"first_name": "", "last_name": title} if "displayName" in properties else {},
        refs=(entry_id,),
        faults=addresses.faults,
        removed=removed,
    )


def takes_mail(properties: Properties) -> bool:
    """Whether a group is one for mail; the others are for rights alone and have no place here."""
    enabled = properties.get("mailEnabled")
    return enabled if isinstance(enabled, bool) else bool(properties.get("mail"))


def _addresses(properties: Properties, managed: frozenset[str]) -> Found:
    """Without the tenant's own routing addresses, which everybody has and nobody is written at."""
    proxies = properties.get("proxyAddresses")
    mail = _raw(properties, "mail")
    texts = [value for value in proxies if isinstance(value, str)] if isinstance(proxies, list) else []
    found = find_addresses(texts, [mail] if mail else [], [], None)
    return Found(found.primary, tuple(box for box in found.aliases if not _is_routing(box, managed)), found.faults)


def _is_routing(box: Mailbox, managed: frozenset[str]) -> bool:
    return box.domain.endswith(_ROUTING_DOMAIN) and box.domain not in managed


def _raw(properties: Properties, name: str) -> str:
    value = properties.get(name)
    return value if isinstance(value, str) else ""


def _text(properties: Properties, name: str) -> str:
    """One line, as stored fields are; null is empty."""
    plain = "".join(char if char.isprintable() else " " for char in _raw(properties, name))
    return " ".join(plain.split())[:MAX_LINE].rstrip()
