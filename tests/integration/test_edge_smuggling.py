"""SMTP smuggling to a stock Postfix and a stock Exim behind the edge: what their own ports fall for never reaches them
through us.

The first tests are the positive control: they show that each peer can be deceived, so that the others prove something.
"""

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from postern_local.nexthop import SmtpSink
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.servers.exim import Exim, unusable
from tests.servers.postfix import Postfix
from tests.servers.smuggling import BARE, DECEIVING, DECEIVING_EXIM, HARMLESS, NUL, Peer, smuggle, smuggle_in_step
from tests.servers.stack import Stack
from tests.servers.waiting import eventually

pytestmark = pytest.mark.spec("F5")
needs_exim = pytest.mark.skipif(unusable() is not None, reason=str(unusable()))


@contextlib.contextmanager
def peer_of(stack: Stack, start) -> Iterator[Peer]:
    """A customer whose mail server is what `start` starts, before a sink of its own."""
    customer = stack.customer()
    domain = stack.domain(customer)
    unit, sink = stack.farm.sink()
    unit.start()
    with start(stack, domain, sink) as port:
        stack.site(customer, port)
        yield Peer(port, domain, sink)
    unit.stop()


@contextlib.contextmanager
def running_postfix(stack: Stack, domain: str, sink: SmtpSink) -> Iterator[int]:
    directory = Path(tempfile.mkdtemp(prefix="postern-smuggling-"))
    directory.chmod(0o755)  # Postfix changes its user
    postfix = Postfix(directory / "postfix", sink.port, domain)
    postfix.start()
    yield postfix.relaying_port
    postfix.stop()
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running_exim(stack: Stack, domain: str, sink: SmtpSink) -> Iterator[int]:
    name = f"exim-{secrets.token_hex(3)}"
    exim = Exim(stack.farm.directory / name, free_ports(1)[0], domain, sink.port, name)
    unit = Unit(exim, stack.farm.processes)
    unit.start()
    yield exim.port
    unit.stop()


@pytest.fixture(scope="module")
def postfix(stack):
    with peer_of(stack, running_postfix) as peer:
        yield peer


@pytest.fixture(scope="module")
def exim(stack):
    with peer_of(stack, running_exim) as peer:
        yield peer


@pytest.mark.parametrize(("name", "mark"), DECEIVING.items())
def test_postfix_itself_is_deceived(postfix, name, mark):
    assert smuggle("127.0.0.1", postfix.port, postfix.recipient, f"direct-{name}", mark).code == 250
    eventually(lambda: postfix.taken(f"direct-{name}") == 2, timeout=20)


@needs_exim
@pytest.mark.parametrize(("name", "mark"), DECEIVING_EXIM.items())
def test_exim_itself_is_deceived(exim, name, mark):
    smuggle_in_step("127.0.0.1", exim.port, exim.recipient, f"direct-{name}", mark, b"\n")
    eventually(lambda: exim.taken(f"direct-{name}") == 2, timeout=20)


@pytest.mark.parametrize("server", ["postfix", pytest.param("exim", marks=needs_exim)])
def test_nothing_is_smuggled_through_the_edge(request, stack, server):
    peer = request.getfixturevalue(server)
    host, port = stack.smtp()
    for name, mark in BARE.items():
        for first_line_end in (b"\r\n", b"\n"):
            reply = smuggle(host, port, peer.recipient, f"bare-{name}", mark, first_line_end=first_line_end)
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
