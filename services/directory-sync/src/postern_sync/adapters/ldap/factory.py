"""From a customer's settings to a directory that can be read, tested and looked at."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from postern_common.directory_documents import DirectoryDocument, DirectoryRequestDocument, LdapDocument
from postern_common.ldap_filter import FilterError
from postern_common.netguard import NetGuard
from postern_common.secrets import SecretBox, SecretsError
from postern_sync.adapters.ldap.browse import browse
from postern_sync.adapters.ldap.faults import OVERDUE
from postern_sync.adapters.ldap.probe import test
from postern_sync.adapters.ldap.reader import LdapSource
from postern_sync.adapters.ldap.session import Access
from postern_sync.rules.ldap_mapping import LdapMapping
from postern_sync.rules.ldap_presets import PRESETS
from postern_sync.settings import SyncSettings
from postern_sync.source import Source, SourceFailed

_UNSET: Final = "LDAP is not set up."
_SEALED: Final = "The stored password cannot be opened; enter it again."
_FILTER: Final = "The filter cannot be read: {}."


def mapping_of(ldap: LdapDocument, now: datetime, *, include_hidden: bool = True) -> LdapMapping:
    """How objects of this directory are read."""
    overrides: Mapping[str, str] = ldap["attributes"]
    return LdapMapping(
        PRESETS[ldap["preset"]],
        overrides,
        now,
        primary_from_upn=ldap["primary_from_upn"],
        include_hidden=include_hidden,
    )


def ldap_source(
    access: Access, now: datetime, *, include_hidden: bool = True, include_public_folders: bool = False
) -> LdapSource:
    """The directory that `access` leads to; for whoever has the password in plain, such as an agent."""
    mapping = mapping_of(access.ldap, now, include_hidden=include_hidden)
    try:
        return LdapSource(access, mapping, include_public_folders=include_public_folders)
    except FilterError as error:
        raise SourceFailed("filter", _FILTER.format(error)) from None


def make_ldap_source(directory: DirectoryDocument, secrets: SecretBox, settings: SyncSettings) -> Source:
    """The directory of a customer. Raises `SourceFailed` where its settings cannot be used."""
    ldap = directory["ldap"]
    if ldap is None:
        raise SourceFailed("name", _UNSET)
    password = _password(ldap, secrets, f"directories/{directory['customer_id']}/ldap.password")
    deadline = time.monotonic() + settings.sync_ldap_seconds
    access = Access(ldap, password, NetGuard(settings.allow_networks), deadline, OVERDUE)
    return ldap_source(
        access,
        datetime.now(UTC),
        include_hidden=directory["include_hidden"],
        include_public_folders=directory["include_public_folders"],
    )


async def answer_ldap_question(
    question: DirectoryRequestDocument, secrets: SecretBox, settings: SyncSettings
) -> dict[str, Any]:
    """Answer a question that the API put: a test of settings, or a look at entries. Raises `SourceFailed`."""
    ldap = cast(LdapDocument, question["settings"])
    password = _password(ldap, secrets, f"directory_requests/{question['_id']}/ldap.password")
    guard, mapping = NetGuard(settings.allow_networks), mapping_of(ldap, datetime.now(UTC))
    seconds = settings.sync_question_seconds * 0.9  # so that the answer tells which step was the slow one
    if question["kind"] == "browse":
        return await browse(ldap, password, guard, mapping, question["query"], seconds=seconds)
    return await test(ldap, password, guard, mapping, seconds=seconds)


def _password(ldap: LdapDocument, secrets: SecretBox, place: str) -> str:
    try:
        return secrets.open(ldap["password"], place).decode() if ldap["password"] else ""
    except SecretsError:
        raise SourceFailed("bind", _SEALED) from None
