"""Which addresses a setting typed by a tenant may lead to (SPEC R12).

A name is resolved first and each address is judged just before the connection to that very address, so that a name that
changes its answer between check and use gains nothing. Loopback, link-local, private, shared, multicast and reserved
networks are refused, also when they hide inside an IPv6 form, save networks that the operator allows.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
# Not global in truth, whatever this version of `ipaddress` says: shared, protocol assignments; documentation.
_INSIDE: tuple[Network, ...] = (
    IPv4Network("100.64.0.0/10"),
    IPv4Network("192.0.0.0/24"),
    IPv6Network("3fff::/20"),
    IPv6Network("fec0::/10"),
)


class NetGuard:
    """Judges addresses against the operator's allowed networks (`POSTERN_ALLOW_NETWORKS`)."""

    def __init__(self, allow: Sequence[Network] = ()) -> None:
        self._allow = tuple(allow)

    def permits(self, address: str | IPAddress) -> bool:
        """True if a connection to `address` may be made on a tenant's behalf."""
        ip = _unwrap(ip_address(address) if isinstance(address, str) else address)
        if any(ip.version == network.version and ip in network for network in self._allow):
            return True
        return not _is_inside(ip)


def _unwrap(ip: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 form carries (mapped, 6to4, Teredo, NAT64), else the address itself."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in _NAT64 or (int(ip) >> 32 == 0 and int(ip) > 1):  # RFC 6052 2.1, RFC 4291 2.5.5.1
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _is_inside(ip: IPAddress) -> bool:
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        return True  # it names an interface of this machine
    if any(ip.version == network.version and ip in network for network in _INSIDE):
        return True
    return not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback
