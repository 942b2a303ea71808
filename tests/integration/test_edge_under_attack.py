"""Slow clients, floods and endless input on a running edge, while a well-behaved client sends its mail (SPEC F5,
CASES 52, 54): all of it is taken, within a bound, and the edge's memory stays bounded. What was measured is printed.
"""

import contextlib
import smtplib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers.attackers import KINDS
from tests.servers.mail import plain_message
from tests.servers.stack import Stack

pytestmark = pytest.mark.spec("F5")

STACK_SETTINGS = {
    "POSTERN_EDGE_MAX_CONNECTIONS": "400",  # so that the floods reach it
    "POSTERN_EDGE_MAX_CONNECTIONS_PER_ADDRESS": "100",
}
ROOT = Path(__file__).resolve().parents[2]
WELL_BEHAVED = "127.0.0.99"
WITHIN_SECONDS = 5.0  # one message, its retries after 421 included
MEMORY_MIB = 64  # more than before the attack


@pytest.fixture(scope="module")
def recipient(stack: Stack):
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    return f"ann@{domain}"


@contextlib.contextmanager
def attack(kind: str, host: str, port: int, recipient: str) -> Iterator[None]:
    """Attackers of this kind, all of whom have been at the door."""
    command = [sys.executable, "-m", "tests.servers.attackers", kind, host, str(port), recipient]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"all tried\n"
        try:
            yield
        finally:
            process.kill()


def send(host: str, port: int, recipient: str) -> float:
    """Send one message in a connection of its own; the seconds until its 250, tries that got 421 included."""
    started = time.monotonic()
    message = plain_message("bob@far.test", [recipient])
    while True:
        try:
            with smtplib.SMTP(host, port, "good.test", WITHIN_SECONDS, (WELL_BEHAVED, 0)) as client:
                client.sendmail("bob@far.test", [recipient], message)
            return time.monotonic() - started
        except (smtplib.SMTPConnectError, smtplib.SMTPServerDisconnected, smtplib.SMTPHeloError):
            assert time.monotonic() - started < WITHIN_SECONDS, "not served in time"
            time.sleep(0.1)


def measured(stack: Stack, recipient: str, count: int) -> list[float]:
    host, port = stack.smtp()
    return sorted(send(host, port, recipient) for _ in range(count))


def shown(seconds: list[float]) -> str:
    p99 = seconds[int(len(seconds) * 0.99) - 1]
    return f"p50 {statistics.median(seconds) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, most {seconds[-1] * 1000:.0f} ms"


def memory(stack: Stack) -> float:
    """MiB that the edge's process has in memory."""
    child = stack.units["edge"].child
    assert child is not None
    return float(psutil.Process(child.pid).memory_info().rss) / 1024**2


@pytest.fixture(scope="module")
def quiet(stack, recipient):
    """How long a message takes when nobody attacks."""
    return measured(stack, recipient, 40)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_well_behaved_client_is_served_meanwhile(stack, recipient, quiet, record_property, kind, count):
    before = memory(stack)
    host, port = stack.smtp()
    with attack(kind, host, port, recipient):
        attacked = measured(stack, recipient, count)
        during = memory(stack)
    record_property("counts", f"quiet: {shown(quiet)}; attacked: {shown(attacked)}; {before:.0f} -> {during:.0f} MiB")
    assert attacked[-1] < WITHIN_SECONDS
    assert during - before < MEMORY_MIB
