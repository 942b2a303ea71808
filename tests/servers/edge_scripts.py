"""Scripts for the inbound port, made from a grammar and a seed: dialogues that mostly get somewhere, with every kind of
damage in between, cut into pieces at any octet.

The same number makes the same script everywhere, so a failure is told by its number.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from tests.servers.edge_arguments import MAIL, RCPT
from tests.servers.edge_wire import FAILURES, Header, Script

_MAIL: Final = list(MAIL)
_MAIL_GOOD: Final = [argument for argument, known in MAIL.items() if known.reply.ok]
_RCPT: Final = list(RCPT)
_RCPT_GOOD: Final = [argument for argument, known in RCPT.items() if known.reply.ok]
# Ends of data that some server takes for one, and the real one (PEERS part 2).
ENDS: Final = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r.\n", b"\n.\r", b"\r\n.\r", b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n", b"\r\r\n.\r\n", b"\n\n.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n .\r\n", b"\r\n. \r\n",
    b"\r\n..\r\n", b"\r\n.x\r\n", b"\r\n.\n\r", b".\r\n", b"\r\n", b"",
]  # fmt: skip
_NOISE: Final = [
    b"NOOP\r\n", b"noop x\r\n", b"RSET\r\n", b"RSET x\r\n", b"VRFY ann\r\n", b"VRFY\r\n", b"HELP\r\n", b"EXPN list\r\n",
    b"AUTH PLAIN AGEAYg==\r\n", b"BDAT 3 LAST\r\n", b"BDAT 0\r\n", b"STARTTLS x\r\n", b"FROB\r\n", b"\r\n", b" \r\n",
    b"DATA\r\n", b"DATA x\r\n", b"NOOP \xc3\xa9\r\n", b"NOOP \xff\r\n", b"NOOP \0\r\n", b"NOOP\t\r\n",
    b"MAIL\r\n", b"MAIL TO:<x>\r\n", b"RCPT\r\n", b"RCPT FROM:<x>\r\n", b"EHLO\r\n", b"EHLO a(b)\r\n",
    b"NOOP " + b"x" * 505 + b"\r\n", b"NOOP " + b"x" * 506 + b"\r\n", b"F" * 511 + b"\r\n", b"HELO x\r\n",
    b"RCPT TO:<" + b"x" * 2100 + b"@example.test>\r\n", b"\xc3\xa9\r\n", b"\x01\r\n", b".\r\n", b"Subject: x\r\n",
]  # fmt: skip
_ENDING: Final = [  # of a session
    b"QUIT\r\n", b"quit now\r\n", b"NOOP\nNOOP\r\n", b"NOOP\rRSET\r\n", b"NOOP\r\r\n", b"\n", b"\r\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /x HTTP/1.1\r\n\r\nMAIL FROM:<a@far.test>\r\n",
    b"PRI * HTTP/2.0\r\n\r\n", b"x" * 8300, b"MAIL FROM:<" + b"y" * 9000,
]  # fmt: skip
_FIRST: Final = [b"\x16\x03\x01\x02\x00\x01", b"\x80\x2e\x01", b"\0\r\n", b"\xff\xfe\r\n", b"GET / HTTP/1.0\r\n\r\n"]
_TEXT: Final = [
    b"\r\n", b"\r\n", b".", b"..", b"\r\n.", b"\r\n..", b"x", b"Subject: hello\r\n", b"Message-ID: <1@x>\r\n",
    b"To: a\r\n\tb\r\n", b"line of text\r\n", b"\xff\x80", b"\xc3\xa9\r\n", b" ", b"\t", b"y" * 118 + b"\r\n",
    b"QUIT\r\n", b"DKIM-Signature: v=1;\r\n", b"." * 60 + b"\r\n",
]  # fmt: skip
_LINES: Final = [
    b"line of text\r\n", b"y" * 118 + b"\r\n", b"w" * 77 + b"\r\n", b"\xc3\xa9\xff\r\n", b"\r\n", b".\r\n", b"..\r\n",
    b".x\r\n", b" \r\n", b"\tx  \r\n", b"From a\r\n", b"--boundary--\r\n",
]  # fmt: skip
_ODD_TEXT: Final = [
    b"\r", b"\n", b"\0", b"z" * 119 + b"\r\n", b"z" * 121, b"\r\n\r", b"\n\r", b"\r\r\n", b"received:\r\n" * 101,
    (b"w" * 98 + b"\r\n") * 19, (b"w" * 98 + b"\r\n") * 31, (b"w" * 98 + b"\r\n") * 130, b"h: " + b"v" * 90 + b"\r\n",
]  # fmt: skip
_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_ENDPOINTS: Final = bytes([203, 0, 113, 5, 192, 0, 2, 1]) + b"\x13\x88\x00\x19"
HEADERS: Final = [
    Header(b"PROXY TCP4 203.0.113.5 192.0.2.1 5000 25\r\n", True, "203.0.113.5"),
    Header(b"PROXY TCP6 2001:db8::5 2001:db8::1 5000 25\r\n", True, "2001:db8::5"),
    Header(b"PROXY UNKNOWN\r\n", True),
    Header(b"PROXY UNKNOWN 1 2 3 4\r\n", True),
    Header(_V2 + b"\x21\x11\x00\x0c" + _ENDPOINTS, True, "203.0.113.5"),
    Header(_V2 + b"\x21\x11\x00\x13" + _ENDPOINTS + b"\x04\x00\x04abcd", True, "203.0.113.5"),
    Header(_V2 + b"\x20\x00\x00\x00", True),
    Header(b"PROXY TCP4 300.1.1.1 192.0.2.1 5000 25\r\n", False),
    Header(b"PROXY TCP4 203.0.113.5\r\n", False),
    Header(b"PROXY TCP4 203.0.113.5 192.0.2.1 5000 25" + b" " * 80, False),
    Header(b"EHLO x\r\n", False),
    Header(_V2 + b"\x31\x11\x00\x0c" + _ENDPOINTS, False),
    Header(_V2 + b"\x21\x12\x00\x0c" + _ENDPOINTS, False),
    Header(_V2 + b"\x21\x11\x00\x04" + _ENDPOINTS[:4], False),
    Header(_V2 + b"\x21\x11\xff\xff", False),
]


def script(seed: int) -> Script:
    """The script of this number."""
    random = Random(seed)
    writes = _damaged(random, list(_dialogue(random)))
    header = None
    if random.random() < 0.06:
        header = random.choice(HEADERS)
        if random.random() < 0.2:
            header = Header(_mutated(random, header.octets), None)
        writes.insert(0, header.octets)
    events = list(_pieces(random, writes))
    if random.random() < 0.12:
        events.insert(random.randrange(len(events) + 1), random.choice(["pause", "late", "drain", "late"]))
        if "pause" in events and random.random() < 0.8:
            events.insert(random.randrange(events.index("pause"), len(events)) + 1, "resume")
    if random.random() < 0.15:
        events.append("eof")
    failure = random.choice([*FAILURES, "upload"]) if random.random() < 0.1 else ""
    # A transport that is being handed over to TLS tells its new owner, not the session, what the client reads.
    handed_over = "pause" in events and any(b"starttls" in write.lower() for write in writes)
    return Script(tuple(events), random.random() < 0.25 and not handed_over, failure, header)


def _dialogue(random: Random) -> Iterator[bytes]:
    """What a client writes, each write in one packet if nothing cuts it."""
    if random.random() < 0.04:
        yield random.choice(_FIRST)
    if random.random() < 0.95:
        yield _hello(random)
    if random.random() < 0.08:
        yield b"STARTTLS\r\n" + random.choice([b"", b"", b"MAIL FROM:<inj@far.test>\r\nRCPT TO:<ann@example.test>\r\n"])
        yield _hello(random)
    for _ in range(random.choice([1, 1, 1, 2, 2, 4])):
        yield from _noise(random)
        yield from _transaction(random)
    if random.random() < 0.5:
        yield from _noise(random)
        yield random.choice(_ENDING) if random.random() < 0.3 else b"QUIT\r\n"


def _noise(random: Random) -> Iterator[bytes]:
    while random.random() < 0.25:
        yield random.choice(_NOISE)
    if random.random() < 0.01:
        yield random.choice(_NOISE) * random.randrange(3, 14)


def _hello(random: Random) -> bytes:
    return random.choice([b"EHLO client.test\r\n", b"EHLO client.test\r\n", b"HELO x\r\n", b"ehlo [127.0.0.1] x\r\n"])


def _transaction(random: Random) -> Iterator[bytes]:
    commands = [b"MAIL FROM:" + random.choice(_MAIL_GOOD if random.random() < 0.85 else _MAIL) + b"\r\n"]
    commands += [
        b"RCPT TO:" + random.choice(_RCPT_GOOD if random.random() < 0.7 else _RCPT) + b"\r\n"
        for _ in range(random.choice([1, 1, 1, 2, 3, 6]))
    ]
    if random.random() < 0.1:
        commands.insert(random.randrange(len(commands) + 1), random.choice(_NOISE))
    commands.append(b"DATA\r\n" if random.random() < 0.95 else b"data \r\n")
    if random.random() < 0.5:
        yield b"".join(commands)  # pipelined
    else:
        yield from commands
    message = _message(random)
    if random.random() < 0.15:  # smuggling: commands of a second transaction behind something like an end
        message = message[:-5] + random.choice(ENDS) + b"".join(commands) + _message(random)
    if random.random() < 0.15:
        message += random.choice(_NOISE)
    yield message


def _message(random: Random) -> bytes:
    count = random.choice([0, 1, 2, 4, 8, 16, 30])
    parts = random.choices(_TEXT, k=count)
    if random.random() < 0.5:  # a message as most are, of up to some 2,500 octets
        count = random.choice([1, 4, 16, 50])
        parts = [b"Subject: hello\r\n", b"To: ann\r\n\tand others\r\n", b"\r\n", *random.choices(_LINES, k=count)]
    while random.random() < 0.15:
        parts.insert(random.randrange(len(parts) + 1), random.choice(_ODD_TEXT))
    body = b"".join(parts)
    if random.random() < 0.9:  # as a well-behaved client would
        body = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
    return body + (b"\r\n.\r\n" if body[-2:] != b"\r\n" or random.random() < 0.1 else b".\r\n")


def _damaged(random: Random, writes: list[bytes]) -> list[bytes]:
    if random.random() < 0.2:
        for _ in range(random.choice([1, 1, 2, 3])):
            place = random.randrange(len(writes))
            writes[place] = _mutated(random, writes[place])
    if random.random() < 0.05:
        place = random.randrange(len(writes))
        writes.insert(place, writes.pop(random.randrange(len(writes))))
    return writes


def _mutated(random: Random, octets: bytes) -> bytes:
    at = random.randrange(len(octets) + 1)
    end = min(len(octets), at + random.choice([0, 1, 1, 2, 8]))
    kinds: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: bytes([random.randrange(256)]),
        lambda: octets[at:end] * 2,
        lambda: random.choice(
            [b"\r", b"\n", b"\0", b"\r\n", b".", b"\r\n.\r\n", b" ", b"<", b">", b'"', b"\\", b"\xff"]
        ),
        octets[at:end].swapcase,
    ]
    return octets[:at] + random.choice(kinds)() + octets[end:]


def _pieces(random: Random, writes: list[bytes]) -> Iterator[bytes | str]:
    """The writes as packets: mostly as they are, some joined, some cut anywhere, a few into single octets."""
    style = random.random()
    if style < 0.3:
        yield from writes
    elif style < 0.4:
        whole = b"".join(writes)
        yield from _cut(random, whole, random.randrange(1, 12))
    elif style < 0.44 and sum(map(len, writes)) < 1500:
        for write in writes:
            for octet in write:
                yield bytes([octet])
    else:
        for write in writes:
            yield from _cut(random, write, random.choice([0, 0, 1, 2, 5]))


def _cut(random: Random, octets: bytes, times: int) -> Iterator[bytes]:
    start = 0
    for end in sorted(random.randrange(len(octets) + 1) for _ in range(times)):
        if end > start:
            yield octets[start:end]
            start = end
    if octets[start:]:
        yield octets[start:]
