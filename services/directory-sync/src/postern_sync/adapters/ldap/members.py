"""The members of a directory's groups, streamed: no group is ever held whole (SPEC S7, L2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from postern_sync.adapters.ldap import ber
from postern_sync.adapters.ldap.faults import TOO_LARGE, LdapFault
from postern_sync.adapters.ldap.ranges import ATTEMPTS, Ask, block_of, plain_of, put_all, read_once, size_of
from postern_sync.rules.ldap_names import normal_member
from postern_sync.source import Reading

MAX_MEMBERS: Final = 20_000_000
_BY_LOGIN: Final = "memberuid"


@dataclass(slots=True)
class Unread:
    """A group whose members did not come whole."""

    dn: str
    group_id: str


@dataclass(slots=True)
class Members:
    """Takes members from groups as they come; `unread` are those to be asked for again, range by range."""

    reading: Reading
    names: tuple[str, ...]
    unread: list[Unread] = field(default_factory=list)
    count: int = 0

    def take(self, dn: str, group_id: str, attributes: Mapping[str, ber.Values]) -> None:
        """The members in a group's own entry, or a note that they are to be asked for."""
        if not all(_is_whole(attributes, name) for name in self.names):
            self.unread.append(Unread(dn, group_id))
            return
        for name in self.names:
            values = plain_of(attributes, name)
            if values is not None:
                put_all(values, self._putter(name, group_id))

    def read(self, unread: Unread, ask: Ask) -> bool:
        """All members of a group, range by range; False where they could not be read whole."""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.reading.restart_members(unread.group_id)
            size = size_of(attempt)
            if all(read_once(name, ask, self._putter(name, unread.group_id), size) for name in self.names):
                return True
        return False

    def _putter(self, name: str, group_id: str) -> Callable[[list[bytes]], None]:
        to_ref = _login if name.lower() == _BY_LOGIN else normal_member

        def put(values: list[bytes]) -> None:
            self.count += len(values)
            if self.count > MAX_MEMBERS:
                raise LdapFault(TOO_LARGE)
            self.reading.put_members(group_id, [to_ref(value.decode("utf-8", "replace")) for value in values])

        return put


def _is_whole(attributes: Mapping[str, ber.Values], name: str) -> bool:
    """Absent, or there with values and no range."""
    if block_of(attributes, name) is not None:
        return False
    values = plain_of(attributes, name)
    return values is None or values.part.stop > values.part.start


def _login(value: str) -> str:
    return f"uid:{value.strip().lower()}"
