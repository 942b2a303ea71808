"""SMTP smuggling to a stock Postfix behind the edge: what its own port falls for never reaches it through us.

The marks are those of the published tools (smtpsmug, SMTP-Smuggling-Tools). The first test is the positive control:
it shows that the peer can be deceived, so that the second one proves something.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from postern_local.nexthop import SmtpSink
from tests.servers.mail import Dialogue
from tests.servers.postfix import Postfix
from tests.servers.waiting import eventually

pytestmark = pytest.mark.spec("F5")

# Ends of data that deceive Postfix as Debian ships it.
DECEIVING = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "crcrlf-dot-crcrlf": b"\r\r\n.\r\r\n",
}
BARE = DECEIVING | {
    "cr-dot-cr": b"\r.\r",
    "cr-dot-crlf": b"\r.\r\n",
    "cr-dot-lf": b"\r.\n",
    "lf-dot-cr": b"\n.\r",
    "crlf-dot-cr": b"\r\n.\r",
    "crlf-dot-crcrlf": b"\r\n.\r\r\n",
    "crcrlf-dot-crlf": b"\r\r\n.\r\n",
    "lf-lf-dot-crlf": b"\n\n.\r\n",
    "crlf-dot-lfcr": b"\r\n.\n\r",
}
NUL = {
    "crlf-nul-dot-crlf": b"\r\n\0.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\0\r\n",
    "nul-crlf-dot-nul": b"\0\r\n.\0\r\n",
}
HARMLESS = {
    "crlf-blank-dot-crlf": b"\r\n .\r\n",
    "crlf-dot-blank-crlf": b"\r\n. \r\n",
    "crlf-dot-dot-crlf": b"\r\n..\r\n",
    "crlf-dot-text-crlf": b"\r\n.x\r\n",
}


class Peer:
    """A stock Postfix that relays to a sink."""

    def __init__(self, port: int, domain: str, sink: SmtpSink) -> None:
        self.port = port
        self.recipient = f"ann@{domain}"
        self._sink = sink

    def taken(self, name: str) -> int:
        """How many messages arrived that carry this mark's name."""
        return sum(f"Subject: {name}".encode() in path.read_bytes() for path in self._sink.messages())


@pytest.fixture(scope="module")
def peer(stack):
    customer = stack.customer()
    domain = stack.domain(customer)
    directory = Path(tempfile.mkdtemp(prefix="postern-smuggling-"))
    directory.chmod(0o755)  # Postfix changes its user
    unit, sink = stack.farm.sink()
    unit.start()
    postfix = Postfix(directory / "postfix", sink.port, domain)
    postfix.start()
    stack.site(customer, postfix.relaying_port)
    yield Peer(postfix.relaying_port, domain, sink)
    postfix.stop()
    unit.stop()
    shutil.rmtree(directory, ignore_errors=True)


def smuggle(host, port, recipient, name, mark):
    """Send one message with a second one behind `mark`; the reply to the first."""
    inner = f"MAIL FROM:<evil@far.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nSubject: {name}\r\n\r\nsmuggled\r\n.\r\n"
    with Dialogue(host, port) as client:
        client.greet()
        client.command("MAIL FROM:<bob@far.test>")
        client.command(f"RCPT TO:<{recipient}>")
        client.command("DATA", 354)
        with contextlib.suppress(OSError):
            client.send_raw(f"Subject: {name}\r\n\r\nouter".encode() + mark + inner.encode())
        reply = client.read()
        if reply.code != 521:
            client.send("QUIT")
            with contextlib.suppress(AssertionError):
                while client.read().code != 221:
                    pass
        return reply


@pytest.mark.parametrize(("name", "mark"), DECEIVING.items())
def test_the_peer_itself_is_deceived(peer, name, mark):
    assert smuggle("127.0.0.1", peer.port, peer.recipient, f"direct-{name}", mark).code == 250
    eventually(lambda: peer.taken(f"direct-{name}") == 2, timeout=20)


def test_nothing_is_smuggled_through_the_edge(stack, peer):
    host, port = stack.smtp()
    for name, mark in BARE.items():
        reply = smuggle(host, port, peer.recipient, f"bare-{name}", mark)
        assert reply.startswith("521 5.5.2"), (name, reply)
    for name, mark in NUL.items():
        reply = smuggle(host, port, peer.recipient, f"nul-{name}", mark)
        assert reply.startswith("554 5.6.0"), (name, reply)
    for name, mark in HARMLESS.items():
        reply = smuggle(host, port, peer.recipient, f"whole-{name}", mark)
        assert reply.startswith("250 2.0.0"), (name, reply)
    assert smuggle(host, port, peer.recipient, "last", b"\r\n").code == 250
    eventually(lambda: all(peer.taken(f"whole-{name}") for name in HARMLESS) and peer.taken("last"), timeout=30)
    assert {name: peer.taken(f"whole-{name}") for name in HARMLESS} == dict.fromkeys(HARMLESS, 1)
    assert peer.taken("last") == 1
    assert peer.taken("bare-") == peer.taken("nul-") == 0
