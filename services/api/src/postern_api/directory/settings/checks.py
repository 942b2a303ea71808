"""Settings of a provider, checked field by field before they are kept or tried (SPEC L1, S11, E1, R12).

What comes out has the stored form, without secrets: those are `credentials.py`'s.
"""

import re
from typing import Any, Final

from postern_api.directory.rules import graph_filter, ldap_names
from postern_api.directory.settings import certificates
from postern_api.directory.settings.schemas import EntraFields, EntraInput, LdapFields, LdapInput
from postern_api.http.problems import invalid
from postern_api.sites.hosts import parse_host
from postern_common.addresses import parse_domain
from postern_common.errors import Rejected
from postern_common.ldap_filter import FilterError, check_filter
from postern_common.ldap_secrets import secret_attribute, secret_compared
from postern_common.netguard import NetGuard

Document = dict[str, Any]
ATTRIBUTES: Final = (
    "id", "mail", "proxy_addresses", "member", "first_name", "last_name", "home_phone", "mobile", "company",
    "department", "notes", "upn", "aliases", "name", "disabled",
)  # fmt: skip
_GUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def ldap_fields(body: LdapInput, guard: NetGuard) -> Document:
    """The settings of an LDAP directory."""
    found: Document = body.model_dump(include=set(LdapFields.model_fields))
    is_direct = body.connection == "direct"
    if is_direct and not body.host:
        raise invalid("The server's name or address is needed.", "/ldap/host")
    for name in ("host", "second_host"):
        if found[name]:
            found[name] = _host(found[name], guard if is_direct else None, f"/ldap/{name}")
    found["second_host"] = found["second_host"] or None
    if is_direct and not body.base_dn:
        raise invalid("The base DN is needed.", "/ldap/base_dn")
    if body.base_dn and not ldap_names.is_dn(body.base_dn):
        raise invalid("This is no distinguished name, such as DC=example,DC=com.", "/ldap/base_dn")
    for name in ("user_filter", "group_filter"):
        _check_filter(found[name], f"/ldap/{name}")
    _check_attributes(body.attributes)
    if body.ca_certificates is not None:
        certificates.check_authorities(body.ca_certificates, "/ldap/ca_certificates")
    if body.fingerprint:
        found["fingerprint"] = certificates.fingerprint(body.fingerprint, "/ldap/fingerprint")
    found["fingerprint"] = found["fingerprint"] or None
    return found


def _host(text: str, guard: NetGuard | None, pointer: str) -> str:
    """The host; an agent stands inside, so that any will do for it."""
    try:
        return parse_host(text, guard or _ANYWHERE, (), pointer)
    except Rejected as error:
        if error.code != "host-refused":
            raise
        message = (
            "This address lies in a private or reserved network, which cannot be reached from here. Have an agent read "
            "the directory, or name an address outside."
        )
        raise Rejected(error.code, message, pointer=pointer) from None


class _Anywhere(NetGuard):
    """Permits every address."""

    def permits(self, address: object) -> bool:
        return True


_ANYWHERE: Final = _Anywhere()


def _check_filter(text: str, pointer: str) -> None:
    if text:
        try:
            check_filter(text)
        except FilterError as error:
            raise invalid(f"This is no LDAP filter: {error}.", pointer) from None
        if (name := secret_compared(text)) is not None:
            raise invalid(f"Secrets are not compared: {name}.", pointer)


def _check_attributes(names: dict[str, str]) -> None:
    for ours, theirs in names.items():
        pointer = "/ldap/attributes/" + ours[:100].replace("~", "~0").replace("/", "~1")
        if ours not in ATTRIBUTES:
            raise invalid(f"There is no such name; there are {', '.join(ATTRIBUTES)}.", pointer)
        if theirs and not ldap_names.is_attribute(theirs):
            raise invalid("This is no attribute's name.", pointer)
        if theirs and secret_attribute(theirs):
            raise invalid("This attribute may hold secrets, which are not read.", pointer)


def entra_fields(body: EntraInput) -> Document:
    """The settings of a Microsoft Entra tenant."""
    found: Document = body.model_dump(include=set(EntraFields.model_fields))
    found["tenant"] = _tenant(body.tenant)
    found["client_id"] = body.client_id.lower()
    if not _GUID.fullmatch(found["client_id"]):
        raise invalid("This is no application id, such as 6f9619ff-8b86-d011-b42d-00cf4fc964ff.", "/entra/client_id")
    if body.user_filter:
        fault = graph_filter.fault_of(body.user_filter)
        if fault is not None:
            raise invalid(f"This cannot be a $filter: {fault}.", "/entra/user_filter")
    return found


def _tenant(text: str) -> str:
    lower = text.lower()
    if _GUID.fullmatch(lower):
        return lower
    try:
        return parse_domain(text).ascii
    except Rejected:
        message = "This is neither a directory (tenant) id nor a domain such as example.onmicrosoft.com."
        raise invalid(message, "/entra/tenant") from None
