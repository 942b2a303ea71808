"""Which TLS a delivery must have, and how results are summed up (SPEC R11, RFC 8460)."""

from datetime import UTC, datetime

import pytest

from postern_common.tls_result_documents import MOST_FAILURES
from postern_edge.adapters.resolver import are_validating
from postern_edge.rules.dane import Tlsa
from postern_edge.rules.mta_sts import parse_policy
from postern_edge.rules.tls_policy import (
    NO_STARTTLS,
    OPPORTUNISTIC,
    REQUIRED,
    Level,
    Receiving,
    Reported,
    Requirement,
    TlsaFound,
    TlsFault,
    meets,
    policy_for,
    without_tlsa,
)
from postern_edge.rules.tls_tally import MOST_SUMS, Tally, details, document_id

NOW = datetime(2026, 11, 28, 23, 59, 59, tzinfo=UTC)
EE, TA, UNUSABLE = Tlsa(3, 1, 1, bytes(32)), Tlsa(2, 1, 1, bytes(32)), Tlsa(1, 1, 1, bytes(32))
ENDS = ("192.0.2.1", "198.51.100.1")


def sts(mode, mx="mx.a.test"):
    return parse_policy(f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n")


def receiving(policy=None):
    return Receiving("a.test", ("a.test",), True, policy)


def found(*records):
    return TlsaFound("mx.a.test", 25, records)


def chosen(policy=None, tlsa=None):
    return policy_for("opportunistic", "mx.a.test", receiving(policy), tlsa)


# -- the choice --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
def test_a_server_from_a_setting_goes_by_the_setting_alone_and_is_not_reported():
    assert policy_for("required", "h", None, None) is REQUIRED
    assert policy_for("opportunistic", "h", None, None) is OPPORTUNISTIC
    assert policy_for("required", "mx.a.test", receiving(sts("testing")), found(EE)) is REQUIRED


@pytest.mark.spec("R11")
def test_dane_comes_before_mta_sts():
    for mode in ("enforce", "testing", "none"):
        policy = chosen(sts(mode, "elsewhere.test"), found(EE))
        assert (policy.name, policy.requirement.level, policy.refusal) == ("dane", Level.DANE, None)


@pytest.mark.spec("R11")
def test_names_count_with_dane_ta_alone():
    assert chosen(None, found(EE)).requirement.names == ()
    assert chosen(None, found(EE, TA)).requirement.names == ("mx.a.test", "a.test")


@pytest.mark.spec("R11")
def test_unusable_records_want_encryption_and_leave_the_rest_to_mta_sts():
    assert chosen(None, found(UNUSABLE)).requirement == Requirement(Level.ENCRYPT)
    assert chosen(sts("none"), found(UNUSABLE)).requirement == Requirement(Level.ENCRYPT)
    assert chosen(sts("enforce"), found(UNUSABLE)).requirement == Requirement(Level.WEBPKI)
    testing = chosen(sts("testing"), found(UNUSABLE))
    assert (testing.requirement.level, testing.trial) == (Level.ENCRYPT, Requirement(Level.WEBPKI))


@pytest.mark.spec("R11")
def test_mta_sts_enforces_tries_or_says_nothing_by_its_mode():
    enforced, tried, nothing = chosen(sts("enforce")), chosen(sts("testing")), chosen(sts("none"))
    assert (enforced.name, enforced.requirement.level, enforced.trial) == ("mta-sts", Level.WEBPKI, None)
    assert (tried.requirement.level, tried.trial) == (Level.MAY, Requirement(Level.WEBPKI))
    assert nothing.reported == Reported("a.test")
    assert (nothing.requirement.level, nothing.trial) == (Level.MAY, None)


@pytest.mark.spec("R11")
def test_a_host_that_the_policy_does_not_name_is_refused_or_counted_by_its_mode():
    enforced, tried = chosen(sts("enforce", "other.test")), chosen(sts("testing", "other.test"))
    assert enforced.refusal == "MTA-STS: the policy of a.test does not name mx.a.test"
    assert (tried.refusal, tried.requirement.level) == (None, Level.MAY)
    for policy in (enforced, tried):
        assert policy.fault == TlsFault("validation-failure", "mx-not-in-policy")
        assert policy.reported is not None
        assert policy.reported.policy_type == "sts"


@pytest.mark.spec("R11")
def test_a_server_whose_records_cannot_be_looked_up_is_not_asked():
    policy = without_tlsa(receiving(sts("enforce")), "mx.a.test")
    assert policy.refusal == "DANE: the TLSA records of mx.a.test cannot be looked up securely now"
    assert policy.fault == TlsFault("dnssec-invalid", "tlsa-lookup-failed")


@pytest.mark.spec("R11")
def test_a_connection_serves_another_delivery_only_if_it_meets_that_ones_policy():
    dane, webpki, clear = Requirement(Level.DANE, (EE,)), Requirement(Level.WEBPKI), Requirement()
    assert meets(dane, clear, is_secure=True)
    assert meets(clear, clear, is_secure=False)
    assert not meets(clear, webpki, is_secure=True)
    assert not meets(webpki, dane, is_secure=True)
    assert not meets(
        Requirement(Level.DANE, (TA,), ("b.test",)), Requirement(Level.DANE, (TA,), ("a.test",)), is_secure=True
    )
    assert meets(dane, Requirement(Level.ENCRYPT), is_secure=True)
    assert not meets(clear, Requirement(Level.ENCRYPT), is_secure=False)


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "servers,is_validating",
    [
        (("127.0.0.1:53",), True),
        (("127.0.0.53:53", "[::1]:53"), True),
        (("127.0.0.1:53", "192.0.2.1:53"), False),
        (("127.0.0.11:53",), False),  # Docker's passes on what a network brings
        (("127.0.0.54:53",), False),  # so does this one of systemd-resolved's, unlike 127.0.0.53
        (("10.96.0.10:53",), False),
    ],
)
def test_resolvers_are_believed_unasked_only_on_this_machine(servers, is_validating):
    assert are_validating(servers) is is_validating


# -- the sums ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
def test_sessions_are_summed_by_day_policy_and_kind_of_failure():
    tally, reported = Tally(), Reported("a.test", "sts", ("mode: enforce",), ("mx.a.test",))
    for fault in (None, None, NO_STARTTLS, NO_STARTTLS):
        assert tally.add(NOW, reported, fault, "mx.a.test", ENDS)
    assert tally.add(NOW.replace(day=29), reported, None, "mx.a.test", ENDS)
    first = tally.sums["2026-11-28", reported]
    assert (first.successes, list(first.failures.values())) == (2, [2])
    assert tally.sums["2026-11-29", reported].successes == 1
    [failure] = details(first.failures, ()).values()
    assert failure == {
        "result_type": "starttls-not-supported",
        "sending_mta_ip": "192.0.2.1",
        "receiving_mx_hostname": "mx.a.test",
        "receiving_ip": "198.51.100.1",
        "failure_reason_code": "",
        "count": 2,
    }


@pytest.mark.spec("R11")
def test_a_policy_that_changes_has_a_document_of_its_own():
    keys = [document_id(("2026-11-28", Reported("a.test", "sts", (line,)))) for line in ("mode: testing", "mode: none")]
    assert len(set(keys)) == 2
    assert all(key.startswith("2026-11-28|a.test|sts|") for key in keys)


@pytest.mark.spec("R11")
def test_more_kinds_of_failure_than_there_is_room_for_are_counted_by_type():
    tally, reported = Tally(), Reported("a.test")
    for number in range(3 * MOST_FAILURES):
        tally.add(NOW, reported, NO_STARTTLS, f"mx{number}.a.test", ENDS)
    kinds = tally.sums["2026-11-28", reported].failures
    assert len(kinds) == MOST_FAILURES + 1
    assert sum(kinds.values()) == 3 * MOST_FAILURES
    stored = [f"old{number}" for number in range(MOST_FAILURES - 10)]
    told = details(kinds, stored)
    assert len(told) == 11
    assert sum(one["count"] for one in told.values()) == 3 * MOST_FAILURES
    assert {one["receiving_mx_hostname"] for one in told.values()} >= {""}


@pytest.mark.spec("R11")
def test_more_policies_than_there_is_room_for_are_not_counted():
    tally = Tally()
    kept = sum(tally.add(NOW, Reported(f"d{number}.test"), None, "", ENDS) for number in range(MOST_SUMS + 5))
    assert kept == MOST_SUMS


@pytest.mark.spec("R11")
def test_sums_that_were_not_written_are_counted_on():
    first, second, reported = Tally(), Tally(), Reported("a.test")
    first.add(NOW, reported, None, "mx", ENDS)
    first.add(NOW, reported, NO_STARTTLS, "mx", ENDS)
    second.add(NOW, reported, NO_STARTTLS, "mx", ENDS)
    second.merge(first)
    total = second.sums["2026-11-28", reported]
    assert (total.successes, list(total.failures.values())) == (1, [2])


@pytest.mark.spec("R11")
def test_sums_do_not_pile_up_while_the_database_is_away():
    waiting, came_meanwhile = Tally(), Tally()
    for number in range(MOST_SUMS):
        waiting.add(NOW, Reported(f"a{number}.test"), None, "", ENDS)
        came_meanwhile.add(NOW, Reported(f"b{number}.test"), None, "", ENDS)
    assert came_meanwhile.merge(waiting) == MOST_SUMS
    assert len(came_meanwhile.sums) == MOST_SUMS
