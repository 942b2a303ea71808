"""`publish`: set a DNS record of a running stack, as the owner of a domain does at a DNS provider.

It needs nothing but the stack's `env` file in the environment: no nsupdate, which Debian keeps in a package of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import dns.exception

from postern_local.faults import StackFault
from postern_local.nameserver import Nameserver


def publish(name: str, kind: str, values: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace the records of that type at a name by these; no values removes them."""
    try:
        port = int(environment["POSTERN_DNS_UPDATE"].rpartition(":")[2])
        key = environment["POSTERN_DNS_TSIG"].split(":", 2)[2]
        zones = tuple(environment["POSTERN_DNS_ZONES"].split())
    except (KeyError, IndexError, ValueError):
        raise StackFault(
            "POSTERN_DNS_UPDATE, POSTERN_DNS_TSIG and POSTERN_DNS_ZONES must be set: "
            "read the env file first, `. .local/env`"
        )
    try:
        Nameserver(Path(), port, key, zones).update(name, kind, values)
    except (OSError, dns.exception.DNSException, ValueError) as error:
        raise StackFault(f"{name} is not published: {str(error) or type(error).__name__}") from error
