"""The account of an attempt stays small, and an attempt keeps what is settled."""

from datetime import UTC, datetime
from typing import cast

import pytest

from postern_common.documents import RecipientState
from postern_edge.outbound.account import TOLD_APART, events_of, steps_of
from postern_edge.outbound.attempt import IN_ONE_TRANSACTION, attempt
from postern_edge.outbound.servers import ForCustomer, LeftOut
from postern_edge.outbound.transaction import Addressee, Parcel
from postern_edge.rules.classify import Outcome, outcome
from postern_edge.rules.conclusion import Change, Conclusion
from postern_edge.rules.route import Server
from postern_edge.rules.tls_policy import TlsUsed

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
PARCEL = Parcel("bob@x.test", 3, False, False, b"x\r\n", None)


def message(count):
    return {
        "_id": "msg_1",
        "queue_id": "Q",
        "customer_id": "cus_1",
        "recipients": [{"address": f"u{number}@y.test"} for number in range(count)],
    }


@pytest.mark.spec("V4")
def test_a_server_with_another_word_for_each_of_500_recipients_fills_no_trace():
    changes = [
        Change(number, "k", RecipientState.DEFERRED, f"451 4.2.1 u{number}", "h:25", 1, NOW) for number in range(500)
    ]
    changes.append(Change(500, "k", RecipientState.DELIVERED, "250 ok", "h:25", 1, None))
    steps = steps_of(message(501), Conclusion(changes), NOW, set())
    events = events_of(message(501), Conclusion(changes), NOW, dsn_sent=False)
    assert len(steps) == len(events) == TOLD_APART + 2
    assert sum(event.data["recipients"] for event in events) == 501
    assert steps[-1]["what"] == "delivered"


@pytest.mark.spec("V4", "R11")
@pytest.mark.parametrize(
    "tls,words,told",
    [
        (
            TlsUsed("dane", "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
            " (TLSv1.3 TLS_AES_256_GCM_SHA384, dane)",
            {"policy": "dane", "version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"},
        ),
        (TlsUsed("opportunistic"), " (in clear)", {"policy": "opportunistic", "version": None, "cipher": None}),
        (None, "", None),
    ],
)
def test_the_trace_and_the_event_tell_by_which_tls_a_message_went(tls, words, told):
    conclusion = Conclusion([Change(0, "k", RecipientState.DELIVERED, "250 ok", "h:25", 1, None, tls)])
    [step] = steps_of(message(1), conclusion, NOW, set())
    [event] = events_of(message(1), conclusion, NOW, dsn_sent=False)
    assert step["detail"] == f"u0@y.test by h:25{words}: 250 ok"
    assert event.data["tls"] == told


async def tried(hops, *rest):
    return await attempt(cast(ForCustomer, hops), *rest)


class Hops:
    """Servers that are scripted: what `use` raises by host, else a connection that cannot carry anything."""

    def __init__(self, **raises):
        self.raises = raises
        self.asked = []

    def is_left_out(self, server):
        return False

    def use(self, server, *, fresh=False):
        self.asked.append(server.host)
        raise self.raises[server.host]


async def given():
    return PARCEL


@pytest.mark.spec("R3")
async def test_servers_that_are_all_left_out_defer():
    [came] = await tried(Hops(a=LeftOut(), b=LeftOut()), [Server("a", 25), Server("b", 25)], given, [ann(0)])
    assert outcome(came.answer) is Outcome.DEFERRED


@pytest.mark.spec("R3")
async def test_without_a_server_the_answer_says_so():
    [came] = await tried(Hops(), [], given, [ann(0)])
    assert came.answer.text == "no mail server is configured"


@pytest.mark.spec("R3")
async def test_many_recipients_go_in_several_transactions():
    hops = Hops(a=LeftOut())
    came = await tried(hops, [Server("a", 25)], given, [ann(number) for number in range(250)])
    assert len(hops.asked) == -(-250 // IN_ONE_TRANSACTION)
    assert sorted(one.index for one in came) == list(range(250))


class Connection:
    """A server that knows no extension."""

    used = False
    max_size = None
    tls = TlsUsed("opportunistic")

    def offers(self, _extension):
        return False


class OneCannotCarry(Hops):
    """Server `a` cannot carry 8-bit content; the others raise."""

    def use(self, server, *, fresh=False):
        return self._lent() if server.host == "a" else super().use(server, fresh=fresh)

    class _lent:  # noqa: N801 - stands for a method
        async def __aenter__(self):
            return Connection()

        async def __aexit__(self, *_):
            return False


@pytest.mark.spec("R3")
@pytest.mark.parametrize("priority", [5, 20])
async def test_what_one_server_cannot_carry_waits_while_another_is_not_reached(priority):
    async def eight_bit():
        return Parcel("bob@x.test", 3, True, False, b"\xff\r\n", None)

    choice = [Server("a", 25, 10), Server("b", 25, priority)]
    [came] = await tried(OneCannotCarry(b=LeftOut()), choice, eight_bit, [ann(0)])
    assert outcome(came.answer) is Outcome.DEFERRED
    [came] = await tried(OneCannotCarry(), choice[:1], eight_bit, [ann(0)])
    assert outcome(came.answer) is Outcome.BOUNCED


def ann(index):
    return index, Addressee(f"u{index}@y.test")
