"""Secrets of a directory: sealed for the place where they are stored, kept or dropped when settings are replaced.

A secret that was left out stays only while it would be sent to the same place, in the same way, for the same account:
otherwise whoever may change the host would have the old password sent to a host of theirs.
"""

from datetime import datetime
from typing import Any, Final

from pydantic import SecretStr

from postern_api.directory.settings import certificates
from postern_api.directory.settings.schemas import EntraInput, LdapInput
from postern_api.directory.settings.store import SECRETS, place_of
from postern_api.http.problems import invalid
from postern_common.secrets import SecretBox, SecretsError

Document = dict[str, Any]
_PORTS: Final = {"ldaps": 636, "starttls": 389, "none": 389}


class Credentials:
    """The secrets of one customer's directory. `place` is where they are stored: their sealing is bound to it."""

    def __init__(self, box: SecretBox, customer_id: str) -> None:
        self._box = box
        self.place = place_of(customer_id)

    def ldap(self, body: LdapInput, found: Document, present: Document | None) -> Document:
        """`found` with the password that goes with it; an agent has its own, and none is kept for it here."""
        if body.connection == "agent":
            return {**found, "password": None}
        return {**found, "password": self._one("ldap", "password", body, present, is_same=_same_server(found, present))}

    def entra(self, body: EntraInput, found: Document, present: Document | None, now: datetime) -> Document:
        """`found` with the secret or certificate that goes with it."""
        is_same = present is not None and all(found[name] == present[name] for name in ("tenant", "client_id", "cloud"))
        sealed = {name: self._one("entra", name, body, present, is_same=is_same) for name in SECRETS["entra"]}
        certificate = body.client_certificate
        if certificate is not None and sealed["client_certificate"] is not None:
            ends = certificates.client_certificate(certificate.get_secret_value(), now, "/entra/client_certificate")
            return {**found, **sealed, "credential_expires_at": ends}
        if present is not None and sealed["client_certificate"] is not None:  # the stored one, which has told its end
            return {**found, **sealed, "credential_expires_at": present["credential_expires_at"]}
        return {**found, **sealed}

    def _one(
        self, part: str, name: str, body: LdapInput | EntraInput, present: Document | None, *, is_same: bool
    ) -> str | None:
        given: SecretStr | None = getattr(body, name)
        if name in body.model_fields_set:
            text = "" if given is None else given.get_secret_value()
            return self._box.seal(text, f"{self.place}/{part}.{name}") if text else None
        stored: str | None = None if present is None else present[name]
        if stored is not None and not is_same:
            what = "servers, port, protection, trust or user" if part == "ldap" else "tenant, application or cloud"
            message = f"The stored one is not sent elsewhere: {what} changed. Give it again, or null."
            raise invalid(message, f"/{part}/{name}")
        return stored

    def moved(self, part: str, settings: Document, place: str) -> Document:
        """`settings` with the secrets sealed for another place."""
        moved = {}
        for name in SECRETS[part]:
            if (sealed := settings[name]) is not None:
                try:
                    opened = self._box.open(sealed, f"{self.place}/{part}.{name}")
                except SecretsError:
                    raise invalid(
                        "The stored one cannot be opened any more. Give it again.", f"/{part}/{name}"
                    ) from None
                moved[name] = self._box.seal(opened, f"{place}/{part}.{name}")
        return settings | moved


def _same_server(found: Document, present: Document | None) -> bool:
    """Whether a password would go where the stored one went, no less protected."""
    if present is None:
        return False
    trusted = ("ca_certificates", "fingerprint")  # whose certificate is believed decides who gets the password
    same = all(found[name] == present[name] for name in ("host", "second_host", "user", "connection", *trusted))
    same = same and _port(found) == _port(present)
    is_weaker = found["security"] == "none" != present["security"]
    is_weaker = is_weaker or (present["verify_certificate"] and not found["verify_certificate"])
    return same and not is_weaker


def _port(settings: Document) -> int:
    return int(settings["port"] or _PORTS[settings["security"]])


def check_usable(part: str, settings: Document) -> None:
    """Refuse settings that lack the secret that they cannot be used without."""
    if part == "entra" and settings["client_secret"] is None and settings["client_certificate"] is None:
        raise invalid("A client secret or a certificate is needed.", "/entra/client_secret")
    is_direct = part == "ldap" and settings["connection"] == "direct"
    if is_direct and settings["user"] and settings["password"] is None:
        # RFC 4513 5.1.2: a bind with a name and no password succeeds as anonymous, and proves nothing.
        raise invalid("A user needs a password.", "/ldap/password")


def without_secrets(part: str, settings: Document | None) -> Document | None:
    """Settings whose secrets are forgotten, and with them when they end."""
    if settings is None:
        return None
    ends = ("credential_expires_at",) if part == "entra" else ()
    return settings | dict.fromkeys((*SECRETS[part], *ends))
