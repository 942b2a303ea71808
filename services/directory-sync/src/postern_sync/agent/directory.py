"""The directory beside the agent: reached as the agent's own settings say, read as the server asks."""

import json
import ssl
import time
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final

import structlog

from postern_common.directory_documents import LdapDocument
from postern_common.ldap_filter import FilterError
from postern_common.ldap_secrets import secret_asked
from postern_common.netguard import NetGuard
from postern_sync.adapters.ldap.browse import browse
from postern_sync.adapters.ldap.factory import ldap_source, mapping_of
from postern_sync.adapters.ldap.faults import OVERDUE
from postern_sync.adapters.ldap.probe import test
from postern_sync.adapters.ldap.session import Access
from postern_sync.agent.config import NO_CERTIFICATES, ConfigFault, LdapConfig, read_secret
from postern_sync.rules.ldap_presets import PRESETS
from postern_sync.source import Reading, Source, SourceFailed

Json = dict[str, Any]
# Whoever runs the agent names the host; no tenant of somebody else's does, so that any address will do (SPEC R12).
ANYWHERE: Final = NetGuard([IPv4Network("0.0.0.0/0"), IPv6Network("::/0")])
ANSWER_SECONDS: Final = 15.0
READ_SECONDS: Final = 4 * 3600.0  # no run waits for longer by default; a directory that hangs must not hold the next up
_UNKNOWN_PRESET: Final = "The server asks for a kind of directory that this version of the agent does not know."
_NO_BASE: Final = "The base DN is given neither by the server nor in the agent's settings."
_UNREAD: Final = "The server asks for {}, which may hold secrets; the agent does not read it."
_LOCAL: Final = "The agent's own settings cannot be used; its log tells why."

log = structlog.get_logger(__name__)


class Directory:
    """The customer's directory."""

    def __init__(self, config: LdapConfig) -> None:
        self._config = config

    def check(self) -> None:
        """Raise `ConfigFault` where a file of the agent's own cannot be used, before the server asks for anything."""
        self._password()
        _authorities(self._config.ca_file)

    def place(self, settings: Json) -> str:
        """Names where it is read and as whom, which the server does not know: elsewhere others may be missing."""
        config = self._config
        own_base = "" if settings["base_dn"] else config.base_dn.strip().lower()
        asked = [config.host.lower(), config.port, config.user.lower(), own_base]
        return sha256(json.dumps(asked).encode()).hexdigest()[:32]

    def document(self, settings: Json) -> LdapDocument:
        """The whole of the settings: the server's for what is read, the agent's for where."""
        config = self._config
        if settings["preset"] not in PRESETS:
            raise SourceFailed("agent", _UNKNOWN_PRESET)
        asked = secret_asked(settings["attributes"], settings["user_filter"], settings["group_filter"])
        if asked is not None:
            raise SourceFailed("agent", _UNREAD.format(asked))
        base_dn = settings["base_dn"] or config.base_dn
        if not base_dn:
            raise SourceFailed("base_dn", _NO_BASE)
        return LdapDocument(
            connection="agent",
            preset=settings["preset"],
            host=config.host,
            port=config.port,
            second_host=config.second_host,
            security=config.security,
            verify_certificate=True,
            ca_certificates=_authorities(config.ca_file),
            fingerprint=config.fingerprint,
            user=config.user,
            password=None,
            base_dn=base_dn,
            user_filter=settings["user_filter"],
            group_filter=settings["group_filter"],
            attributes=dict(settings["attributes"]),
            primary_from_upn=settings["primary_from_upn"],
            page_size=settings["page_size"],
        )

    def _access(self, settings: Json) -> Access:
        try:
            deadline = time.monotonic() + READ_SECONDS
            return Access(self.document(settings), self._password(), ANYWHERE, deadline, OVERDUE)
        except ConfigFault as fault:
            log.error("settings_unusable", reason=str(fault))  # the server is told no paths of this machine
            raise SourceFailed("agent", _LOCAL) from fault

    def _password(self) -> str:
        file = self._config.password_file
        if file is None:
            return ""
        password = read_secret(file)
        if not password:
            raise ConfigFault(f"{file}: it is empty; put the account's password into it")
        return password

    def source(self, settings: Json) -> Source:
        """The directory, to be read. Raises `SourceFailed` where the settings cannot be used."""
        return ldap_source(
            self._access(settings),
            _now(settings),
            include_hidden=settings["include_hidden"],
            include_public_folders=settings["include_public_folders"],
        )

    async def read(self, settings: Json, reading: Reading) -> Json:
        """Read it whole; how that went, as it is told to the server."""
        report = await self.source(settings).read(reading)
        return {
            "place": self.place(settings),
            "report": {
                "base_readable": report.base_readable,
                "problems": [text[:1000] for text in report.problems],
                "referrals": report.referrals,
                "attribute_errors": report.attribute_errors,
                "invocation_id": report.invocation_id,
                "usn": report.usn,
            },
        }

    async def answer(self, kind: str, settings: Json, query: Json) -> Json:
        """Answer a question: a test, or a look at entries. Raises `SourceFailed`."""
        access = self._access(settings)
        mapping = mapping_of(access.ldap, datetime.now(UTC))
        try:
            if kind == "browse":
                return await browse(access.ldap, access.password, ANYWHERE, mapping, query, seconds=ANSWER_SECONDS)
            return await test(access.ldap, access.password, ANYWHERE, mapping, seconds=ANSWER_SECONDS)
        except FilterError as error:
            raise SourceFailed("filter", f"The filter cannot be read: {error}.") from None


def _now(settings: Json) -> datetime:
    try:
        return datetime.fromisoformat(settings["now"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return datetime.now(UTC)


def attributes_read(settings: Json) -> dict[str, list[str]]:
    """What is asked of users, and of groups."""
    ldap = {"preset": "openldap", "attributes": {}, "primary_from_upn": False} | settings
    mapping = mapping_of(ldap, datetime.now(UTC))  # type: ignore[arg-type]
    groups = {name.lower(): name for name in (*mapping.group_attributes, *mapping.member_attributes)}
    return {"users": sorted(mapping.user_attributes), "groups": sorted(groups.values())}


def _authorities(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
        if not text.strip():  # which would stand for the usual authorities
            raise ConfigFault(f"{file}: {NO_CERTIFICATES}")
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        raise ConfigFault(f"{file}: {NO_CERTIFICATES}") from None
    except OSError as error:
        raise ConfigFault(f"{file}: {error.strerror}") from None
    return text
