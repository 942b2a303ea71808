"""From an object of an LDAP directory to an entry: identity, addresses, state, fields (SPEC L2, L3, S6, S10).

Works on the octets that the server sent, by attribute names in lower case. Never fails: what cannot be read is left
out, and an address that is none is told as a fault.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from postern_common.directory_documents import IdKind
from postern_sync.rules import ldap_exchange as exchange
from postern_sync.rules.entries import FIELDS, Entry
from postern_sync.rules.ldap_addresses import Found, find_addresses
from postern_sync.rules.ldap_names import first_value, normal_dn
from postern_sync.rules.ldap_presets import Names, Preset

Raw = Mapping[str, Sequence[bytes]]

DISABLED_BIT: Final = 0x2  # ACCOUNTDISABLE
# A policy's other times mean too many wrong passwords, which pass: nobody has left for that.
LOCKED_FOR_GOOD: Final = "000001010000Z"
_CONSISTENCY: Final = "mS-DS-ConsistencyGuid"
_RECIPIENT_TYPE: Final = "msExchRecipientTypeDetails"
_HIDDEN: Final = "msExchHideFromAddressLists"
_PRIMARY_GROUP: Final = "primaryGroupID"
_SID: Final = "objectSid"
_TRUE: Final = frozenset({"true", "1", "yes", "disabled", "inactive", "locked"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_LINE: Final = 200
MAX_NOTES: Final = 4000


@dataclass(frozen=True, slots=True)
class LdapMapping:
    """How one directory's objects are read. `overrides` are the customer's own names of attributes; an empty one says
    that the directory has no such thing, and what is stored stays. `now` decides on accounts that expire.
    """

    preset: Preset
    overrides: Mapping[str, str]
    now: datetime
    primary_from_upn: bool = False
    include_hidden: bool = True

    def names(self, word: str) -> Names:
        """The directory's attributes for one of our words, the preferred one first."""
        chosen = self.overrides.get(word)
        if chosen is not None:
            return (chosen,) if chosen else ()
        return self.preset.attributes.get(word, ())

    @property
    def user_attributes(self) -> tuple[str, ...]:
        """What is asked of users."""
        words = ("id", "mail", "proxy_addresses", "aliases", "disabled", *FIELDS)
        own = (_CONSISTENCY, _RECIPIENT_TYPE, _HIDDEN, _PRIMARY_GROUP) if self.preset.is_ad else ()
        upn = self.names("upn") if self.primary_from_upn else ()
        return self._attributes(words, (*own, *upn, *self.preset.refs))

    @property
    def group_attributes(self) -> tuple[str, ...]:
        """What is asked of groups, without their members."""
        own = (_SID, _HIDDEN) if self.preset.is_ad else ()
        return self._attributes(("id", "mail", "proxy_addresses", "aliases", "name"), own)

    @property
    def member_attributes(self) -> Names:
        """Which attributes of a group hold its members."""
        return self.names("member")

    def _attributes(self, words: Iterable[str], own: Iterable[str]) -> tuple[str, ...]:
        found = [name for word in words for name in self.names(word)] + list(own)
        return tuple({name.lower(): name for name in found}.values())

    def user(self, dn: str, raw: Raw) -> Entry:
        """A person, or the mailbox of something else."""
        is_disabled = self._is_disabled(raw)
        addresses = self._addresses(raw)
        recipient_type = _integer(raw, _RECIPIENT_TYPE)
        names = [first_value(dn)]
        if addresses.primary is not None:
            names.append(addresses.primary.address.rpartition("@")[0])
        is_system = self.preset.is_ad and exchange.is_system(recipient_type, *names)
        identity, id_kind, immutable = self._identity(dn, raw)
        refs = (f"{name.lower()}:{value.lower()}" for name in self.preset.refs for value in _texts(raw, name))
        return Entry(
            id=identity,
            id_kind=id_kind,
            immutable_id=immutable,
            name=dn,
            kind=exchange.kind_of(recipient_type, is_disabled=is_disabled),
            is_disabled=is_disabled,
            primary=addresses.primary,
            aliases=addresses.aliases,
            fields={word: self._field(word, raw) for word in FIELDS if self.names(word)},
            refs=(normal_dn(dn), *refs),
            faults=addresses.faults,
            excluded="system_mailbox" if is_system else self._hidden(raw),
        )

    def group(self, dn: str, raw: Raw) -> Entry:
        """A distribution list or any other group."""
        return self._other("list", dn, raw)

    def public_folder(self, dn: str, raw: Raw) -> Entry:
        """A public folder of Exchange that takes mail."""
        return self._other("public_folder", dn, raw)

    def _other(self, kind: str, dn: str, raw: Raw) -> Entry:
        addresses = self._addresses(raw)
        identity, id_kind, immutable = self._identity(dn, raw)
        title = _first(raw, self.names("name")) or first_value(dn)
        return Entry(
            id=identity,
            id_kind=id_kind,
            immutable_id=immutable,
            name=dn,
            kind="list" if kind == "list" else "public_folder",
            is_disabled=False,
            primary=addresses.primary,
            aliases=addresses.aliases,
            fields={"first_name": "", "last_name": _line(title)},
            refs=(normal_dn(dn),),
            faults=addresses.faults,
            excluded=self._hidden(raw),
        )

    def _identity(self, dn: str, raw: Raw) -> tuple[str, IdKind, str | None]:
        """Identity, its kind, and what carries it to another provider (BEHAVIOURS 3.1)."""
        immutable = None
        if self.preset.is_ad:
            octets = _octets(raw, _CONSISTENCY) or _octets(raw, "objectGUID")
            immutable = b64encode(octets).decode() if octets else None
        for name in self.names("id"):
            identity = _identity(name, _octets(raw, name) or b"")
            if identity:
                return identity, self.preset.id_kind, immutable
        return normal_dn(dn), "dn", immutable

    def _addresses(self, raw: Raw) -> Found:
        upn = _first(raw, self.names("upn")) if self.primary_from_upn else None
        return find_addresses(
            _all(raw, self.names("proxy_addresses")),
            _all(raw, self.names("mail")),
            _all(raw, self.names("aliases")),
            upn,
        )

    def _field(self, word: str, raw: Raw) -> str:
        text = _first(raw, self.names(word))
        return _lines(text) if word == "notes" else _line(text)

    def _hidden(self, raw: Raw) -> str | None:
        if self.include_hidden:
            return None
        return "hidden" if any(value.upper() == "TRUE" for value in _texts(raw, _HIDDEN)) else None

    def _is_disabled(self, raw: Raw) -> bool:
        """Whether the account is switched off; a directory that says nothing has no such thing (CASES 10)."""
        return any(
            _says_disabled(name.lower(), value, self.now)
            for name in self.names("disabled")
            for value in _texts(raw, name)
        )


def primary_group(raw: Raw) -> int | None:
    """The relative identifier of a user's primary group, which has the user in no `member` (BEHAVIOURS 3.6)."""
    return _integer(raw, _PRIMARY_GROUP)


def relative_identifier(raw: Raw) -> int | None:
    """The last part of a group's SID ([MS-DTYP] 2.4.2.2)."""
    sid = _octets(raw, _SID)
    return int.from_bytes(sid[-4:], "little") if sid is not None and len(sid) >= 12 else None


def _says_disabled(name: str, value: str, now: datetime) -> bool:
    if name == "useraccountcontrol":
        return bool((_number(value) or 0) & DISABLED_BIT)
    if name == "pwdaccountlockedtime":
        return value.strip() == LOCKED_FOR_GOOD
    if name == "shadowexpire":  # days since 1970; 0 is said to mean either of two things (shadow(5)), so it means none
        days = _number(value) or 0
        return 0 < days <= (now - _EPOCH).days
    return value.strip().lower() in _TRUE


def _identity(name: str, value: bytes) -> str:
    if name.lower() == "objectguid":  # [MS-DTYP] 2.3.4.2: the first three parts are little-endian
        return str(UUID(bytes_le=value)) if len(value) == 16 else ""
    text = _text(value).strip()
    try:
        return str(UUID(text.replace("-", "")))  # nsUniqueId has the digits in four groups of eight
    except ValueError:
        return text


def _octets(raw: Raw, name: str) -> bytes | None:
    values = raw.get(name.lower())
    return values[0] if values else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").replace("\0", "")


def _texts(raw: Raw, name: str) -> list[str]:
    return [_text(value) for value in raw.get(name.lower(), ())]


def _all(raw: Raw, names: Names) -> list[str]:
    return [text for name in names for text in _texts(raw, name)]


def _first(raw: Raw, names: Names) -> str:
    """The first text that is more than blanks."""
    return next((text for text in _all(raw, names) if text.strip()), "")


def _number(text: str) -> int | None:
    stripped = text.strip()
    if len(stripped) > 20:
        return None
    try:
        return int(stripped)
    except ValueError:
        return None


def _integer(raw: Raw, name: str) -> int | None:
    return next((_number(text) for text in _texts(raw, name)), None)


def _line(text: str) -> str:
    """One line, as stored fields are."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:MAX_LINE].rstrip()


def _lines(text: str) -> str:
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in plain).strip()[:MAX_NOTES].rstrip()
