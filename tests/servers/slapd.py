"""A private OpenLDAP server: a schema with Active Directory's names, limits, encryption, many entries quickly."""

import base64
import hashlib
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import ldap3
import trustme

from postern_common.directory_documents import LdapDocument
from postern_common.netguard import NetGuard
from postern_local.ports import free_ports
from postern_local.process import Processes, Program
from postern_local.unit import Unit
from postern_sync.adapters.ldap.factory import ldap_source
from postern_sync.adapters.ldap.reader import LdapSource
from postern_sync.adapters.ldap.session import Access
from postern_sync.rules.entries import Entry

BASE = "dc=demo,dc=test"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
ADMIN = f"cn=admin,{BASE}"
READER = f"cn=reader,{BASE}"
BLIND = f"cn=blind,{BASE}"
LIMITED = f"cn=limited,{BASE}"
PASSWORD = "a password of tests"

# Microsoft's own OIDs; `person` stands in for the short form of objectCategory that only Active Directory knows.
_SCHEMA = """\
attributetype ( 1.2.840.113556.1.2.210 NAME 'proxyAddresses' EQUALITY caseExactMatch SUBSTR caseExactSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.146 NAME 'company' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.141 NAME 'department' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.782 NAME 'objectCategory' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.7914.1.2.1.3 NAME 'mailAlternateAddress' EQUALITY caseIgnoreIA5Match
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP inetOrgPerson STRUCTURAL
  MAY ( proxyAddresses $ userAccountControl $ company $ department $ info $ objectGUID $ objectCategory $
  mailAlternateAddress ) )
objectclass ( 1.3.6.1.4.1.7914.1.2.2.9 NAME 'mailbox' SUP top AUXILIARY MAY ( mail $ proxyAddresses ) )
"""

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include {directory}/directory.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/slapd.pid
allow bind_v2
conn_max_pending 1000
{tls}
sizelimit unlimited
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw "{password}"
directory {directory}/data
maxsize 2147483648
index objectClass,entryUUID eq
dbnosync
limits dn.exact="{limited}" size.soft=500 size.hard=1000 size.pr=200 size.prtotal=unlimited
limits * size=unlimited time=unlimited
{limits}
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{blind}" search by users read by anonymous auth
"""


@dataclass
class Certificates:
    """A test authority, and a certificate of it for the server."""

    authority: trustme.CA = field(default_factory=trustme.CA)
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    expires: Any = None

    def write(self, directory: Path) -> str:
        """Write the files; the lines of slapd's configuration that name them."""
        leaf = self.authority.issue_cert(*self.names, not_after=self.expires)
        (directory / "key.pem").write_bytes(leaf.private_key_pem.bytes())
        (directory / "chain.pem").write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
        (directory / "ca.pem").write_bytes(self.authority.cert_pem.bytes())
        return (
            f"TLSCACertificateFile {directory}/ca.pem\n"
            f"TLSCertificateFile {directory}/chain.pem\n"
            f"TLSCertificateKeyFile {directory}/key.pem"
        )

    def pem(self) -> str:
        """The authority, as a customer would upload it."""
        return self.authority.cert_pem.bytes().decode()


def fingerprint_of(port: int) -> str:
    """The SHA-256 of the certificate that a server on this machine shows."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as secured:
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


@dataclass
class Slapd:
    """The directory `dc=demo,dc=test`, in a folder of its own."""

    directory: Path
    certificates: Certificates = field(default_factory=Certificates)
    limits: str = ""
    name: str = "slapd"
    port: int = 0
    tls_port: int = 0

    def __post_init__(self) -> None:
        self.port, self.tls_port = free_ports(2)
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        (self.directory / "directory.schema").write_text(_SCHEMA)
        self._config.write_text(
            _CONFIG.format(
                directory=self.directory, base=BASE, admin=ADMIN, password=PASSWORD, limits=self.limits, blind=BLIND,
                limited=LIMITED, tls=self.certificates.write(self.directory),
            )
        )  # fmt: skip
        self.load(_tree())

    @property
    def _config(self) -> Path:
        return self.directory / "slapd.conf"

    def program(self) -> Program:
        """Serve LDAP, StartTLS and LDAPS."""
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        argv = ("/usr/sbin/slapd", "-f", str(self._config), "-h", urls, "-d", "0")
        return Program(self.name, argv, env={"PATH": os.environ["PATH"]}, cwd=self.directory, grace_seconds=5)

    def missing(self) -> str | None:
        """Ready when it takes connections on both ports."""
        for port in (self.port, self.tls_port):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError as error:
                return str(error)
        return None

    def load(self, entries: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Put entries into the database while the server is down: thousands in a second."""
        ldif = self.directory / "entries.ldif"
        with ldif.open("w") as file:
            file.writelines(_ldif(dn, attributes) for dn, attributes in entries)
        argv = ["/usr/sbin/slapadd", "-q", "-f", str(self._config), "-l", str(ldif)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    @contextmanager
    def editing(self) -> Any:
        """An administrator's connection."""
        server = ldap3.Server("127.0.0.1", port=self.port, get_info=ldap3.NONE, connect_timeout=5)
        with ldap3.Connection(server, ADMIN, PASSWORD, auto_bind=True, check_names=False, receive_timeout=30) as found:
            yield found

    def add(self, *entries: tuple[str, Mapping[str, Any]]) -> None:
        """Add entries while it runs."""
        with self.editing() as connection:
            for dn, attributes in entries:
                connection.add(dn, attributes=dict(attributes))
                assert connection.result["result"] == 0, (dn, connection.result)

    def change(self, dn: str, **attributes: Sequence[Any]) -> None:
        """Replace attributes; no values take one away."""
        with self.editing() as connection:
            connection.modify(dn, {name: [(ldap3.MODIFY_REPLACE, list(values))] for name, values in attributes.items()})
            assert connection.result["result"] == 0, connection.result

    def settings(self, **fields: Any) -> LdapDocument:
        """How a customer would enter it: LDAPS with the test's authority, signed in as a reader."""
        security = fields.get("security", "ldaps")
        document: dict[str, Any] = {
            "connection": "direct",
            "preset": "openldap",
            "host": "localhost",
            "port": self.tls_port if security == "ldaps" else self.port,
            "second_host": None,
            "security": security,
            "verify_certificate": True,
            "ca_certificates": self.certificates.pem(),
            "fingerprint": None,
            "user": READER,
            "password": None,
            "base_dn": BASE,
            "user_filter": "",
            "group_filter": "",
            "attributes": {},
            "primary_from_upn": False,
            "page_size": 500,
        }
        return document | fields  # type: ignore[return-value]


@contextmanager
def running(slapd: Slapd, processes: Processes) -> Iterator[Unit]:
    """The server, started; stopped at the end."""
    with Unit(slapd, processes).running() as unit:
        yield unit


LOOPBACK: Final = NetGuard([ip_network("127.0.0.0/8"), ip_network("::1/128")])


def source_of(settings: LdapDocument, password: str = PASSWORD, **options: Any) -> LdapSource:
    """The directory that settings lead to, where connections within this machine are permitted."""
    return ldap_source(Access(settings, password, LOOPBACK), datetime.now(UTC), **options)


class Everything:
    """Takes all that is read, into lists; the test's own `on_page` is called after each page of entries."""

    def __init__(self, on_page: Callable[[], None] = lambda: None) -> None:
        self.entries: dict[str, Entry] = {}
        self.members: dict[str, list[str]] = {}
        self.told: list[tuple[str, int]] = []
        self.on_page = on_page

    def put(self, entries: list[Entry]) -> None:
        self.entries |= {entry.id: entry for entry in entries}

    def put_members(self, group_id: str, refs: list[str]) -> None:
        self.members.setdefault(group_id, []).extend(refs)

    def restart_members(self, group_id: str) -> None:
        self.members.pop(group_id, None)

    def progress(self, *, phase: str, read: int, total: int | None = None) -> None:
        self.told.append((phase, read))
        self.on_page()

    def named(self, name: str) -> Entry:
        """The entry whose DN begins with this."""
        return next(entry for entry in self.entries.values() if entry.name.startswith(name))

    def by_address(self) -> dict[str, Entry]:
        """Entries by their primary address."""
        return {entry.primary.address: entry for entry in self.entries.values() if entry.primary is not None}


def _tree() -> list[tuple[str, dict[str, Any]]]:
    """The upper part of the tree, and the accounts that read it."""
    top: list[tuple[str, dict[str, Any]]] = [
        (BASE, {"objectClass": ["dcObject", "organization"], "dc": "demo", "o": "Demo"}),
        (PEOPLE, {"objectClass": "organizationalUnit", "ou": "people"}),
        (GROUPS, {"objectClass": "organizationalUnit", "ou": "groups"}),
    ]
    for dn in (READER, BLIND, LIMITED):
        account = {"objectClass": ["organizationalRole", "simpleSecurityObject"], "userPassword": PASSWORD}
        top.append((dn, account | {"cn": dn.partition(",")[0].removeprefix("cn=")}))
    return top


def _ldif(dn: str, attributes: Mapping[str, Any]) -> str:
    """An entry in LDIF with every value in base64, so that none is taken for syntax (RFC 2849)."""
    lines = [f"dn:: {base64.b64encode(dn.encode()).decode()}"]
    for name, values in attributes.items():
        for value in [values] if isinstance(values, str | bytes | int) else values:
            octets = value if isinstance(value, bytes) else str(value).encode()
            lines.append(f"{name}:: {base64.b64encode(octets).decode()}")
    return "\n".join(lines) + "\n\n"


def person(login: str, **attributes: Any) -> tuple[str, dict[str, Any]]:
    """A user; `login`@demo.test unless `mail` says otherwise."""
    fields: dict[str, Any] = {
        "objectClass": ["user", "mailbox"],
        "uid": login,
        "cn": login,
        "sn": login.capitalize(),
        "givenName": "Test",
        "mail": f"{login}@demo.test",
    }
    return f"uid={login},{PEOPLE}", {name: value for name, value in (fields | attributes).items() if value is not None}


def group(name: str, members: Sequence[str], **attributes: Any) -> tuple[str, dict[str, Any]]:
    """A groupOfNames with the logins of its members."""
    fields: dict[str, Any] = {
        "objectClass": ["groupOfNames", "mailbox"],
        "cn": name,
        "mail": f"{name}@demo.test",
        "member": [f"uid={login},{PEOPLE}" for login in members],
    }
    return f"cn={name},{GROUPS}", fields | attributes
