"""Which domain controller answers, and how far it is (BEHAVIOURS 3.2, [MS-ADTS] 3.1.1.3.2).

A replica that is behind what was read before has not heard of everybody yet.
"""

from dataclasses import dataclass
from uuid import UUID

from postern_sync.adapters.ldap import ber
from postern_sync.adapters.ldap.objects import Asking, octets_of


@dataclass(frozen=True, slots=True)
class Replica:
    """A domain controller's database by its invocation id, and the number of its last change."""

    invocation_id: str | None
    usn: int | None


def read(asking: Asking) -> Replica:
    """Ask the root of the server; what it does not tell stays unknown."""
    root = _values(asking, "", ("highestCommittedUSN", "dsServiceName"))
    usn = root.get("highestcommittedusn")
    service = root.get("dsservicename")
    invocation = None
    if service:
        found = _values(asking, service[0].decode("utf-8", "replace"), ("invocationId",)).get("invocationid")
        if found and len(found[0]) == 16:
            invocation = str(UUID(bytes_le=found[0]))
    return Replica(invocation, int(usn[0]) if usn and usn[0].isdigit() and len(usn[0]) < 20 else None)


def _values(asking: Asking, dn: str, attributes: tuple[str, ...]) -> dict[str, list[bytes]]:
    answer = asking.one(dn, attributes)
    try:
        return octets_of(answer.entry) if answer.entry is not None else {}
    except ber.Malformed:
        return {}
