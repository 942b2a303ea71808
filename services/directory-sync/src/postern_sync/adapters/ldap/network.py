"""From the host that a customer typed to addresses that may be connected to (SPEC R12)."""

import socket
from typing import Final

from postern_common.netguard import NetGuard
from postern_sync.adapters.ldap.faults import Fault, LdapFault

MAX_ADDRESSES: Final = 4
UNKNOWN: Final = Fault("name", "name", "The server's name is not known in DNS.")
UNRESOLVED: Final = Fault("name", "name", "The server's name could not be looked up just now.")
REFUSED: Final = Fault(
    "refused_network",
    "connect",
    "The server lies in a private or reserved network, which cannot be reached from here; an agent can read it.",
)


def resolve(host: str, port: int, guard: NetGuard) -> list[str]:
    """The addresses of `host` that may be connected to. Connect to these and never to the name: it may change."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise LdapFault(UNKNOWN if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA} else UNRESOLVED) from None
    except (OSError, UnicodeError):
        raise LdapFault(UNKNOWN) from None
    addresses = list(dict.fromkeys(str(where[4][0]) for where in found))
    permitted = [address for address in addresses if guard.permits(address)]
    if not permitted:
        raise LdapFault(REFUSED)
    return permitted[:MAX_ADDRESSES]
