"""BIND's named as an authoritative server with zones that take dynamic updates (RFC 2136) under one TSIG key.

It serves `demo.test` and `scratch.test` and refuses all else, so a look-up that leaves the stack is seen at once.
Negative answers live two seconds (the zones' SOA minimum), so that a record just published is found by the next check.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsigkeyring
import dns.update

from postern_local.faults import StackFault
from postern_local.files import write_private, write_text
from postern_local.process import Program

ZONES = ("demo.test", "scratch.test")
KEY_NAME = "postern-local"
KEY_ALGORITHM = "hmac-sha256"
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


@dataclass(frozen=True)
class Nameserver:
    """A private named on 127.0.0.1; `update` publishes records as an owner of a zone would."""

    directory: Path
    port: int
    key: str
    zones: tuple[str, ...] = field(default=ZONES)
    name: str = "named"
    host: str = "127.0.0.1"

    @property
    def tsig(self) -> str:
        """The update key as CONTRACT writes it: name:algorithm:key."""
        return f"{KEY_NAME}:{KEY_ALGORITHM}:{self.key}"

    def program(self) -> Program:
        """In the foreground, logging to its output."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        argv = (self._program(), "-g", "-n", "1", "-U", "1", "-c", str(self.directory / "named.conf"))
        return Program(self.name, argv, cwd=self.directory, grace_seconds=5)

    def missing(self) -> str | None:
        """Ready when it answers for each of its zones with authority."""
        for zone in self.zones:
            question = dns.message.make_query(zone, dns.rdatatype.SOA)
            try:
                answer = dns.query.udp(question, "127.0.0.1", timeout=1, port=self.port)
            except (OSError, dns.exception.DNSException) as error:
                return f"no answer on port {self.port} ({type(error).__name__})"
            if answer.rcode() != dns.rcode.NOERROR or not answer.flags & dns.flags.AA:
                return f"{zone} is not served yet ({dns.rcode.to_text(answer.rcode())})"
        return None

    def update(self, name: str, kind: str, values: Sequence[str], ttl: int = 2) -> None:
        """Replace the records of that type at a name; no values removes them. A TXT value is one unquoted string."""
        self._send(name, kind, [_presentation(kind, value) for value in values], ttl)

    def update_raw(self, name: str, kind: str, rdatas: Sequence[str], ttl: int = 2) -> None:
        """Replace the records by what a zone file would hold, quotes and split strings as given."""
        self._send(name, kind, list(rdatas), ttl)

    def _send(self, name: str, kind: str, rdatas: list[str], ttl: int) -> None:
        wanted = dns.name.from_text(name)
        zone = self._zone_of(wanted)
        keyring = dns.tsigkeyring.from_text({KEY_NAME: (KEY_ALGORITHM, self.key)})
        message = dns.update.UpdateMessage(zone, keyring=keyring)
        message.delete(wanted, kind)
        for rdata in rdatas:
            message.add(wanted, ttl, kind, rdata)
        answer = dns.query.tcp(message, "127.0.0.1", timeout=5, port=self.port)
        if answer.rcode() != dns.rcode.NOERROR:
            raise StackFault(f"the name server refused the update of {name}: {dns.rcode.to_text(answer.rcode())}")

    def _zone_of(self, name: dns.name.Name) -> dns.name.Name:
        zones = [dns.name.from_text(zone) for zone in self.zones]
        holding = [zone for zone in zones if name.is_subdomain(zone)]
        if not holding:
            raise StackFault(f"{name} is in none of the zones {', '.join(self.zones)}")
        return max(holding, key=len)

    def _program(self) -> str:
        found = shutil.which("named", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if found is None:
            raise StackFault("BIND's named is not installed: run deploy/local/bootstrap.sh")
        if not (_APPARMOR.exists() and _APPARMOR.read_text().startswith("Y")):
            return found
        # Debian's AppArmor profile binds to the path of the program and lets it read /etc/bind alone.
        private = self.directory / "named"
        if not private.exists():
            shutil.copy2(found, private)
        return str(private)

    def _write_configuration(self) -> None:
        for zone in self.zones:
            if not (self.directory / zone).exists():
                write_text(self.directory / zone, _zone_file(zone))
        zones = "".join(
            f'zone "{zone}" {{ type primary; file "{zone}"; allow-update {{ key "{KEY_NAME}"; }}; }};\n'
            for zone in self.zones
        )
        text = f"""options {{
    directory "{self.directory}";
    listen-on port {self.port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file "named.pid";
    session-keyfile "session.key";
    recursion no;
    dnssec-validation no;
    empty-zones-enable no;
    notify no;
    allow-transfer {{ key "{KEY_NAME}"; }};
    querylog no;
}};
controls {{ }};
key "{KEY_NAME}" {{ algorithm {KEY_ALGORITHM}; secret "{self.key}"; }};
{zones}"""
        write_private(self.directory / "named.conf", text)


def _presentation(kind: str, value: str) -> str:
    if kind.upper() != "TXT":
        return value
    strings = [value[at : at + 255] for at in range(0, len(value), 255)] or [""]
    return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in strings)


def _zone_file(zone: str) -> str:
    return f"""$ORIGIN {zone}.
$TTL 2
@   SOA ns hostmaster 1 600 60 86400 2
@   NS  ns
@   MX  10 mx
ns  A   127.0.0.1
mx  A   127.0.0.1
"""
