"""Next hops that fail in every way that SMTP leaves them, each with what must become of mail for it."""

import email
import smtplib
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from tests.chaos.load import HEADER
from tests.servers.smtp_fake import DEFAULT_EXTENSIONS, FakeHop, Taken

FOR_EVER = 3600.0
VERBS = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END")
DELIVERED, WAITS = "delivered", "waits"
WITH_STARTTLS = (*DEFAULT_EXTENSIONS, "STARTTLS")
SENDERS = "senders.test"


@dataclass
class Kind:
    """A next hop: what it does, and the fate of its mail.

    `delivered` at once; `waits` until it is mended, or for five days; else it is returned with that status.
    """

    name: str
    fate: str
    script: dict[str, Any] = field(default_factory=dict)
    local_parts: Sequence[str] = ("ann",)
    share: int = 1  # of the load

    @property
    def domain(self) -> str:
        """The domain whose mail goes there."""
        return "-".join(self.name.lower().split()) + ".test"


def kinds() -> list[Kind]:
    """All of them, live ones among them."""
    live = [Kind(f"live {number}", DELIVERED, share=10) for number in range(1, 5)]
    return [*live, *_silent(), *_closing(), *_not_now(), *_refusing(), *_of_two_minds()]


def _silent() -> list[Kind]:
    return [
        *(Kind(f"hangs at {verb}", WAITS, {"delays": {verb: FOR_EVER}}) for verb in VERBS),
        Kind("hangs in STARTTLS", DELIVERED, {"stall_after_starttls": True}),  # in clear then (CASES 60)
        Kind("drips an octet a second", WAITS, {"drip_seconds": 1.0}),
        Kind("drips but is done in time", DELIVERED, {"drip_seconds": 0.01}),
    ]


def _closing() -> list[Kind]:
    return [
        *(Kind(f"closes at {verb}", WAITS, {"disconnect_at": {verb}}) for verb in (*VERBS, "BODY")),
        Kind("closes at STARTTLS", DELIVERED, {"disconnect_at": {"STARTTLS"}, "extensions": WITH_STARTTLS}),
        Kind("takes it and closes", WAITS, {"loses_final_reply": True}),
    ]


def _not_now() -> list[Kind]:
    return [
        *(Kind(f"says 4yz to {verb}", WAITS, {"replies": {verb: "451 4.3.0 not now"}}) for verb in VERBS),
        Kind("says 421 to MAIL", WAITS, {"replies": {"MAIL": "421 4.3.2 going down"}}),
        Kind("says 4yz to STARTTLS", DELIVERED, _with_starttls("454 4.7.0 not now")),
    ]


def _refusing() -> list[Kind]:
    return [
        Kind("says 5yz to CONNECT", WAITS, {"replies": {"CONNECT": "554 5.3.2 not you"}}),
        Kind("says 5yz to EHLO and HELO", WAITS, {"replies": dict.fromkeys(("EHLO", "HELO"), "550 5.7.1 not you")}),
        Kind("says 5yz to EHLO", DELIVERED, {"replies": {"EHLO": "502 5.5.1 what"}}),  # RFC 5321 3.2: by HELO
        Kind("says 5yz to STARTTLS", DELIVERED, _with_starttls("502 5.5.1 what")),
        Kind("says 5yz to MAIL", "5.1.8", {"replies": {"MAIL": "550 5.1.8 not from you"}}),
        Kind("says 5yz to RCPT", "5.1.1", {"replies": {"RCPT": "550 5.1.1 nobody here"}}),
        Kind("says 5yz to DATA", "5.7.1", {"replies": {"DATA": "554 5.7.1 not that"}}),
        Kind("says 5yz to END", "5.6.0", {"replies": {"END": "554 5.6.0 what is this"}}),
        Kind("says a bare 550 to RCPT", "5.1.1", {"replies": {"RCPT": "550 nobody here"}}),
    ]


def _of_two_minds() -> list[Kind]:
    kind = Kind("differs by recipient", WAITS, local_parts=("now", "later", "never"))
    kind.script["recipients"] = {
        f"later@{kind.domain}": "450 4.2.0 not now",
        f"never@{kind.domain}": "550 5.1.1 nobody here",
    }
    return [kind]


def _with_starttls(reply: str) -> dict[str, Any]:
    return {"replies": {"STARTTLS": reply}, "extensions": WITH_STARTTLS}


@dataclass
class Senders:
    """Send each kind its share of `count` messages from several connections; `taken` has when each number got 250.

    Each message has a sender of its own, so that no limit of notifications is met.
    """

    kinds: Sequence[Kind]
    count: int
    taken: dict[int, float] = field(default_factory=dict)
    kind_of: dict[int, Kind] = field(default_factory=dict)

    def send(self, address: tuple[str, int], connections: int = 8) -> None:
        """Send all of it; raises where anything is refused."""
        shares = [kind for kind in self.kinds for _ in range(kind.share)]
        rounds = -(-self.count // len(shares))
        self.kind_of = dict(enumerate(shares * rounds))
        faults: list[Exception] = []

        def work(first: int) -> None:
            try:
                self._session(address, range(first, len(self.kind_of), connections))
            except (OSError, smtplib.SMTPException) as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(first,), daemon=True) for first in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]

    def _session(self, address: tuple[str, int], numbers: Iterable[int]) -> None:
        with smtplib.SMTP(*address, "load.test.invalid", timeout=60) as client:
            for number in numbers:
                kind = self.kind_of[number]
                recipients = [f"{local}@{kind.domain}" for local in kind.local_parts]
                text = f"{HEADER}: {number}\r\nSubject: probe {number}\r\n\r\n" + "x" * 2000 + "\r\n"
                assert not client.sendmail(f"s{number}@{SENDERS}", recipients, text.encode())
                self.taken[number] = time.monotonic()


@dataclass(frozen=True)
class Notice:
    """A notification as the sender got it."""

    number: int
    recipient: str
    status: str


def notices(home: FakeHop) -> list[Notice]:
    """All that came home, one for each recipient that was told of."""
    return [notice for taken in list(home.messages) for notice in _notices_in(taken)]


def _notices_in(taken: Taken) -> list[Notice]:
    report = email.message_from_bytes(taken.data)
    assert report.get_content_type() == "multipart/report"
    _, told, original = _parts(report)
    headers = email.message_from_string(str(original.get_payload()))
    blocks = _parts(told)[1:]
    assert all(block["Action"] == "failed" for block in blocks)
    return [
        Notice(int(headers[HEADER]), block["Final-Recipient"].partition(";")[2].strip(), block["Status"])
        for block in blocks
    ]


def _parts(message: Message) -> list[Message]:
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]
