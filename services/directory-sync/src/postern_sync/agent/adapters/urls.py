"""URLs in the settings, judged as what connects there understands them: no two readings of one text."""

import re
from collections.abc import Set as AbstractSet
from typing import Final

import httpx2

# The machine itself, by names that no resolver is asked for. What goes there crosses no network.
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_PORT: Final = 65_535


def server_url(url: str) -> str:
    """The server's URL. Raises `ValueError` in words for people."""
    found = _parsed(url, {"https", "http"}, "must begin with https://")
    if found.scheme == "http" and found.host not in LOOPBACK:
        raise ValueError("must begin with https://; http:// is taken for this machine alone, such as 127.0.0.1")
    if found.path != "/" or found.query or found.fragment or found.userinfo:
        raise ValueError("must be scheme, host and port alone, such as https://postern.example.com")
    return url


def proxy_url(url: str) -> str:
    """A proxy's URL. Raises `ValueError` in words for people."""
    _parsed(url, {"http", "https"}, "must begin with http:// or https://")
    return url


def is_plain(url: str) -> bool:
    """Whether what goes there is not encrypted."""
    return httpx2.URL(url).scheme == "http"


def _parsed(url: str, schemes: AbstractSet[str], otherwise: str) -> httpx2.URL:
    scheme, mark, _ = url.partition("://")
    if not mark or scheme.lower() not in schemes:
        raise ValueError(otherwise)
    try:
        found = httpx2.URL(url)
        if found.host and 0 < (found.port or 1) <= MAX_PORT and re.search(r"[\s\\]", url) is None:
            return found
    except (httpx2.InvalidURL, ValueError):  # a port, an address or a name that is none
        pass
    raise ValueError("must have a host, and a port from 1 to 65535 if any")
