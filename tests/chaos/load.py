"""A steady stream of numbered messages from several clients, and what became of each number.

A number is used once: a client whose connection breaks does not send it again, because nobody knows whether it was
taken. What got 250 must arrive; what got no answer may.
"""

import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers.waiting import eventually

HEADER: Final = "X-Probe"
CLIENTS: Final = 8
PAUSE_SECONDS: Final = 0.02  # of each client between messages, so that every death falls into the stream


class Load:
    """Sends until `wanted` messages got 250. `servers()` gives the addresses to try; a dead one is skipped, and one
    that says nothing for `patience` seconds is left.
    """

    def __init__(
        self,
        servers: Callable[[], list[tuple[str, int]]],
        recipient: str,
        wanted: int,
        *,
        patience: float = 30.0,
    ) -> None:
        self._servers = servers
        self._recipient = recipient
        self._wanted = wanted
        self._patience = patience
        self._lock = threading.Lock()
        self._next = 0
        self.taken: set[int] = set()
        self.refused = 0  # for now
        self.rejected = 0  # for good
        self.broken = 0
        self._threads = [
            threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(CLIENTS)
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait until enough was taken; raises after `seconds`."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise AssertionError(f"only {len(self.taken)} of {self._wanted} were taken in {seconds:.0f} s")

    def wait_for(self, count: int, seconds: float = 120) -> None:
        """Wait until `count` messages were taken."""
        deadline = time.monotonic() + seconds
        while len(self.taken) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"only {len(self.taken)} of {count} were taken in {seconds:.0f} s")
            time.sleep(0.01)

    def _client(self, number: int) -> None:
        turn = number
        while len(self.taken) < self._wanted:
            servers = self._servers()
            turn += 1
            try:
                self._session(*servers[turn % len(servers)])
            except smtplib.SMTPResponseException as error:
                self._count(error.smtp_code)
                time.sleep(0.1)
            except (OSError, smtplib.SMTPException):
                self._count(None)
                time.sleep(0.1)

    def _session(self, host: str, port: int) -> None:
        with smtplib.SMTP(host, port, "load.test.invalid", timeout=self._patience) as client:
            for _ in range(20):
                if len(self.taken) >= self._wanted:
                    return
                probe = self._number()
                text = f"{HEADER}: {probe}\r\nSubject: probe {probe}\r\n\r\n" + "x" * 2000 + "\r\n"
                try:
                    client.sendmail("load@sender.test", [self._recipient], text.encode())
                except smtplib.SMTPRecipientsRefused as error:
                    self._count(error.recipients[self._recipient][0])
                    client.rset()
                    time.sleep(0.1)
                else:
                    with self._lock:
                        self.taken.add(probe)
                    time.sleep(PAUSE_SECONDS)

    def _number(self) -> int:
        with self._lock:
            self._next += 1
            return self._next

    def _count(self, code: int | None) -> None:
        """Count a reply that is no 250, or its absence."""
        with self._lock:
            if code is None or code < 400:
                self.broken += 1
            elif code < 500:
                self.refused += 1
            else:
                self.rejected += 1


@dataclass(frozen=True)
class Account:
    """What became of a load: how often each number arrived."""

    load: Load
    counts: Counter[int]

    @property
    def lost(self) -> set[int]:
        """What got 250 and did not arrive."""
        return self.load.taken - set(self.counts)

    @property
    def duplicates(self) -> int:
        """How many arrivals were one too many."""
        return sum(number - 1 for number in self.counts.values())

    def lines(self) -> list[str]:
        """The counts as text."""
        unanswered = len(set(self.counts) - self.load.taken)
        return [
            f"taken {len(self.load.taken)}, arrived {len(self.counts)} ({unanswered} of them got no answer)",
            f"lost {len(self.lost)}, duplicates {self.duplicates}",
            f"refused for a while {self.load.refused}, connections cut off {self.load.broken}",
        ]


def settled(
    load: Load, arrivals: Callable[[], Counter[int]], waiting: Callable[[], int], seconds: float = 120
) -> Account:
    """The account once all that was taken has arrived and `waiting()` says that nothing more is to come; after
    `seconds` as it is then. No fault here is a reason to reject anything.
    """
    assert not load.rejected, f"{load.rejected} replies were 5yz"
    with suppress(AssertionError):
        eventually(lambda: load.taken <= set(arrivals()) and not waiting(), timeout=seconds, pause=1)
    return Account(load, arrivals())


def arrived(files: list[Path]) -> Counter[int]:
    """How often each number stands in the next hop's files."""
    return numbers(file.read_bytes() for file in files)


def numbers(messages: Iterable[bytes]) -> Counter[int]:
    """How often each number stands in these messages."""
    counts: Counter[int] = Counter()
    for message in messages:
        for line in message.split(b"\n", 60):
            if line.lower().startswith(HEADER.lower().encode() + b":"):
                counts[int(line.partition(b":")[2])] += 1
                break
    return counts
