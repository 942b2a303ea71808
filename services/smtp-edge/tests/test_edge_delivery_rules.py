"""The rules of delivery: what is temporary, when to try again, who is left out, where to go, who is told."""

import email
import email.policy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postern_common.documents import RecipientState
from postern_edge.rules import breaker
from postern_edge.rules.breaker import Breaker
from postern_edge.rules.classify import LONGEST_REPLY, Answer, Outcome, Stage, answer, outcome, status
from postern_edge.rules.conclusion import Tried, conclude
from postern_edge.rules.dsn import Action, Report, ReportedRecipient, build, header_section, typed_address
from postern_edge.rules.retry import next_attempt
from postern_edge.rules.route import Server, Site, choose_site, in_order

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIVE_DAYS = timedelta(days=5)


# -- what is temporary ------------------------------------------------------------------------------------------------


@pytest.mark.spec("R5")
@pytest.mark.parametrize(
    "stage,code,text,expected",
    [
        (Stage.END, 250, "2.0.0 taken", Outcome.DELIVERED),
        (Stage.RCPT, 250, "", Outcome.DEFERRED),  # the dialogue ended too early
        (Stage.RCPT, 550, "5.1.1 no such user", Outcome.BOUNCED),
        (Stage.RCPT, 451, "4.2.1 later", Outcome.DEFERRED),
        (Stage.MAIL, 553, "5.1.8 bad sender", Outcome.BOUNCED),
        (Stage.END, 554, "5.7.1 spam", Outcome.BOUNCED),
        (Stage.END, 421, "4.3.2 going down", Outcome.DEFERRED),
        (Stage.GREETING, 554, "no service here", Outcome.DEFERRED),
        (Stage.TLS, 554, "5.7.0 no TLS", Outcome.DEFERRED),
        (Stage.MAIL, 503, "5.5.1 nested MAIL", Outcome.DEFERRED),
        (Stage.RCPT, 552, "too many recipients", Outcome.DEFERRED),
        (Stage.RCPT, 552, "5.2.2 mailbox full", Outcome.BOUNCED),
        (Stage.RCPT, 666, "what", Outcome.DEFERRED),
        (Stage.DATA, 199, "", Outcome.DEFERRED),
        (Stage.CONNECT, 0, "timed out", Outcome.DEFERRED),
    ],
)
def test_only_a_clear_refusal_of_the_message_is_permanent(stage, code, text, expected):
    assert outcome(Answer(stage, code, text)) is expected


def test_what_the_server_cannot_carry_is_permanent_without_asking():
    assert outcome(Answer(Stage.MAIL, 0, "5.6.7 no", permanent=True)) is Outcome.BOUNCED


def test_a_reply_is_kept_on_one_line_without_control_characters_and_bounded():
    given = answer(Stage.MAIL, 550, "5.1.1 a\nb\x1b[0m\x00" + "x" * 9000)
    assert given.text.startswith("5.1.1 a b")
    assert given.text.isprintable()
    assert len(given.text) == LONGEST_REPLY


@pytest.mark.parametrize(
    "given,expected",
    [
        (Answer(Stage.RCPT, 550, "5.1.1 no such user"), "5.1.1"),
        (Answer(Stage.RCPT, 550, "no such user"), "5.1.1"),
        (Answer(Stage.RCPT, 550, "4.1.1 wrong class"), "5.1.1"),
        (Answer(Stage.END, 554, "spam"), "5.0.0"),
        (Answer(Stage.CONNECT, 0, "timed out"), "4.4.1"),
        (Answer(Stage.END, 250, "taken"), "2.0.0"),
    ],
)
def test_a_report_has_the_servers_own_status_where_it_fits(given, expected):
    assert status(given) == expected


# -- when to try again ------------------------------------------------------------------------------------------------


@pytest.mark.spec("R5")
def test_intervals_grow_to_four_hours_and_the_last_attempt_is_at_the_end_of_five_days():
    now, attempts, waits = NOW, 0, []
    while True:
        attempts += 1
        due = next_attempt(attempts, first=MINUTE, now=now, expires_at=NOW + FIVE_DAYS, draw=0.5)
        if due is None:
            break
        waits.append((due - now) / MINUTE)
        now = due
    assert waits[:8] == [1, 5, 15, 30, 60, 120, 240, 240]
    assert now == NOW + FIVE_DAYS
    assert 30 < attempts < 45


@pytest.mark.parametrize("draw,expected", [(0.0, 48), (0.5, 60), (1.0, 72)])
def test_attempts_that_fell_together_drift_apart(draw, expected):
    due = next_attempt(1, first=MINUTE, now=NOW, expires_at=NOW + FIVE_DAYS, draw=draw)
    assert due == NOW + timedelta(seconds=expected)


# -- who is left out --------------------------------------------------------------------------------------------------


@pytest.mark.spec("R3")
def test_a_server_is_left_out_after_three_failures_for_longer_each_time_and_comes_back_by_one_success():
    state = Breaker()
    for _ in range(2):
        state = breaker.failed(state, NOW)
        assert breaker.permits(state, NOW)
    state = breaker.failed(state, NOW)
    assert not breaker.permits(state, NOW + timedelta(seconds=14))
    later = NOW + timedelta(seconds=15)
    assert breaker.permits(state, later)
    state = breaker.attempted(state, later)
    assert not breaker.permits(state, later)  # one trial at a time
    state = breaker.failed(state, later)
    assert not breaker.permits(state, later + timedelta(seconds=29))
    assert breaker.permits(state, later + timedelta(seconds=30))
    assert breaker.succeeded(state) == Breaker()


def test_failures_that_were_under_way_together_do_not_lengthen_the_pause():
    state = Breaker()
    for _ in range(20):
        state = breaker.failed(state, NOW)
    assert breaker.permits(state, NOW + timedelta(seconds=30)) or state.open_until == NOW + breaker.FIRST_PAUSE


def test_a_trial_that_never_reports_back_is_forgotten():
    state = Breaker(3, NOW)
    state = breaker.attempted(state, NOW)
    assert breaker.permits(state, NOW + breaker.FIRST_PAUSE)


# -- where to go ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R1")
def test_the_users_site_beats_the_domains_which_beats_the_default_and_a_lost_one_is_passed_over():
    default, other = Site("sit_1", "cus", True, ()), Site("sit_2", "cus", False, ())
    assert choose_site("sit_2", "sit_1", [default, other]) is other
    assert choose_site(None, "sit_2", [default, other]) is other
    assert choose_site("sit_gone", "sit_gone", [default, other]) is default
    assert choose_site(None, None, [other]) is None


@pytest.mark.spec("R3")
def test_servers_stand_by_priority_and_equal_ones_are_shuffled():
    a, b, c = Server("a", 25, 20), Server("b", 25, 10), Server("c", 25, 10)
    assert in_order([a, b, c], lambda _servers: None) == [b, c, a]
    assert in_order([a, b, c], lambda servers: servers.reverse()) == [c, b, a]


# -- what follows -----------------------------------------------------------------------------------------------------


def stored(*recipients, sender="bob@x.test", **fields):
    return {
        "sender": sender,
        "received_at": NOW,
        "expires_at": NOW + FIVE_DAYS,
        "steps": [],
        "recipients": [
            {"key": key, "state": "accepted", "attempts": 0, "next_attempt_at": NOW, "notify": []} | more
            for key, more in recipients
        ],
        **fields,
    }


OK = Answer(Stage.END, 250, "2.0.0 ok")
NO = Answer(Stage.RCPT, 550, "5.1.1 no")
LATER = Answer(Stage.RCPT, 451, "4.2.1 later")


def run(message, tried, now=NOW):
    return conclude(message, tried, now=now, first_retry=MINUTE, draw=0.5)


@pytest.mark.spec("R5")
def test_each_recipient_goes_its_own_way_and_the_message_is_due_with_the_first():
    message = stored(("a", {}), ("b", {}), ("c", {}), ("d", {"next_attempt_at": NOW + timedelta(seconds=30)}))
    came = run(message, [Tried(0, OK, "h"), Tried(1, NO, "h"), Tried(2, LATER, "h")])
    assert [change.state for change in came.changes] == [
        RecipientState.DELIVERED, RecipientState.BOUNCED, RecipientState.DEFERRED,
    ]  # fmt: skip
    assert came.changes[2].next_attempt_at == NOW + MINUTE
    assert came.due_at == NOW + timedelta(seconds=30)
    assert not came.done
    assert [one.index for one in came.failed] == [1]


@pytest.mark.spec("R5")
def test_after_five_days_what_is_deferred_is_returned():
    came = run(stored(("a", {})), [Tried(0, LATER, "h")], now=NOW + FIVE_DAYS)
    assert came.changes[0].state is RecipientState.BOUNCED
    assert came.done
    assert len(came.failed) == 1


@pytest.mark.spec("R5")
def test_a_null_sender_is_never_told():
    came = run(stored(("a", {"notify": ["SUCCESS", "FAILURE"]}), sender=""), [Tried(0, NO, "h")])
    assert came.changes[0].state is RecipientState.BOUNCED
    assert came.failed == []


@pytest.mark.spec("V5")
@pytest.mark.parametrize(
    "notify,given,told",
    [
        ([], NO, "failed"), (["FAILURE"], NO, "failed"), (["NEVER"], NO, None), (["SUCCESS"], NO, None),
        ([], OK, None), (["SUCCESS"], OK, "relayed"), (["DELAY"], LATER, "delayed"), ([], LATER, None),
    ],
)  # fmt: skip
def test_the_sender_is_told_what_was_asked_for(notify, given, told):
    came = run(stored(("a", {"notify": notify})), [Tried(0, given, "h")], now=NOW + timedelta(hours=5))
    assert [name for name in ("failed", "relayed", "delayed") if getattr(came, name)] == ([told] if told else [])


def test_a_delay_is_told_once():
    message = stored(("a", {"notify": ["DELAY"]}), steps=[{"what": "delay_noted"}])
    assert run(message, [Tried(0, LATER, "h")], now=NOW + timedelta(hours=9)).delayed == []


# -- the notification itself ------------------------------------------------------------------------------------------


def report(**fields):
    values = {
        "action": Action.FAILED,
        "hostname": "mx.test",
        "message_id": "<msg_1@mx.test>",
        "sender": "bob@x.test",
        "envid": None,
        "arrived_at": NOW,
        "now": NOW + FIVE_DAYS,
        "retry_until": NOW + FIVE_DAYS,
        "recipients": [ReportedRecipient("ann@y.test", None, NO)],
        "headers": b"Subject: x\r\n",
    }
    return Report(**(values | fields))


@pytest.mark.spec("R5")
def test_a_notification_is_a_report_that_programs_read():
    built = build(report())
    assert b"\n" not in built.replace(b"\r\n", b"")
    parsed = email.message_from_bytes(built, policy=email.policy.default)
    assert not parsed.defects
    assert [part.get_content_type() for part in parsed.iter_parts()] == [
        "text/plain", "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip
    blocks: Any = list(parsed.iter_parts())[1].get_payload()
    assert blocks[1]["Remote-MTA"] is None
    assert blocks[1]["Status"] == "5.1.1"


@pytest.mark.spec("R5")
def test_time_that_ran_out_has_a_status_of_its_own():
    built = build(report(recipients=[ReportedRecipient("ann@y.test", None, LATER)]))
    assert b"Status: 4.4.7\r\n" in built


def test_case_55_what_comes_from_outside_begins_no_header_of_its_own():
    hostile = "rfc822;a\r\nBcc: all@x.test"
    built = build(
        report(
            sender="b\r\nX-Evil: 1@x.test",
            envid="e+0D+0AX-Evil: 2",
            recipients=[ReportedRecipient("a\r\nX-Evil: 3@y.test", hostile, Answer(Stage.RCPT, 550, "x\r\nX-Evil: 4"))],
        )
    )
    assert b"\r\nX-Evil" not in built
    assert b"\r\nBcc" not in built


def test_an_international_address_is_told_in_ascii():
    assert typed_address("bjørn@y.test") == "utf-8; bj\\x{F8}rn@y.test"
    assert typed_address("ann@y.test") == "rfc822; ann@y.test"


def test_headers_that_are_not_ascii_are_told_as_they_were():
    built = build(report(headers="Subject: bjørn\r\n".encode()))
    assert built.count(b"Content-Transfer-Encoding: 8bit") == 2
    assert "Subject: bjørn".encode() in built


def test_the_header_section_ends_before_the_empty_line():
    assert header_section(b"A: 1\r\nB: 2\r\n\r\nbody") == b"A: 1\r\nB: 2\r\n"
    assert header_section(b"A: 1\r\n") == b"A: 1\r\n"
