"""What Graph's objects become, and what changes do to them."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from postern_common.directory_documents import DeltaDocument
from postern_sync.rules import graph_mapping as mapping
from postern_sync.rules.graph_rounds import goes_on, has_left_filter, scope_of
from postern_sync.rules.graph_words import secret_end, sign_in_words

MANAGED = frozenset({"demo.test"})
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ANN = {
    "userPrincipalName": "ann@demo.test", "mail": "a.lee@demo.test", "accountEnabled": True, "givenName": "Ann",
    "surname": "Lee", "mobilePhone": "+44 2", "companyName": "Demo", "department": None, "userType": "Member",
    "proxyAddresses": ["SMTP:Ann.Lee@demo.test", "smtp:al@demo.test", "SIP:ann@demo.test", "X500:/o=demo/cn=ann",
                       "smtp:ann@demo.onmicrosoft.com"],
    "onPremisesImmutableId": "AAECAwQFBgcICQoLDA0ODw==",
}  # fmt: skip


def entry(properties, removed=None, managed=MANAGED):
    return mapping.user_entry("1", properties, removed, managed)


def aliases(found):
    return [alias.address for alias in found.aliases]


@pytest.mark.spec("E2", "S6", "L3")
def test_a_user_has_the_fields_and_addresses_of_graph():
    found = entry(ANN)
    assert found.primary is not None
    assert found.primary.address == "Ann.Lee@demo.test"
    assert aliases(found) == ["al@demo.test", "a.lee@demo.test"]
    assert found.fields == {
        "first_name": "Ann", "last_name": "Lee", "mobile": "+44 2", "company": "Demo", "department": "",
    }  # fmt: skip
    assert (found.id, found.id_kind, found.immutable_id) == ("1", "graph_id", "AAECAwQFBgcICQoLDA0ODw==")
    assert (found.name, found.kind, found.is_disabled, found.excluded) == ("ann@demo.test", "user", False, None)


@pytest.mark.spec("E2")
def test_fields_that_graph_does_not_know_are_left_as_they_are():
    assert not {"home_phone", "notes"} & set(entry(ANN).fields)


@pytest.mark.spec("E2")
def test_routing_addresses_are_left_out_unless_the_customer_manages_them():
    assert "ann@demo.onmicrosoft.com" in aliases(entry(ANN, managed=MANAGED | {"demo.onmicrosoft.com"}))
    only = {"userPrincipalName": "x@demo.onmicrosoft.com", "accountEnabled": True, "mail": "x@demo.onmicrosoft.com"}
    found = entry(only)
    assert found.primary is not None
    assert found.primary.address == "x@demo.onmicrosoft.com"


@pytest.mark.spec("E2")
def test_case_20_aliases_that_go_and_come_back_are_followed_and_the_user_stays():
    known = mapping.merged(ANN, {"id": "1", "proxyAddresses": []}, mapping.USER_SELECT)
    assert entry(known).primary is not None
    assert entry(known).primary.address == "a.lee@demo.test"
    assert aliases(entry(known)) == []
    again = mapping.merged(known, {"id": "1", "proxyAddresses": ["SMTP:ann.lee@demo.test"]}, mapping.USER_SELECT)
    assert entry(again).primary.address == "ann.lee@demo.test"
    gone = mapping.merged(known, {"id": "1", "mail": None}, mapping.USER_SELECT)
    assert entry(gone).primary is None
    assert entry(gone).removed is None


@pytest.mark.spec("E2")
def test_case_22_a_change_of_case_is_the_same_user_with_the_same_address():
    one, other = (entry(ANN | {"proxyAddresses": [], "mail": text}) for text in ("A.B@demo.test", "a.b@demo.test"))
    assert one.id == other.id
    assert one.primary.key == other.primary.key


@pytest.mark.spec("E2")
@pytest.mark.parametrize(
    "properties, excluded",
    [
        ({"userPrincipalName": "x_gmail.com#EXT#@t.onmicrosoft.com", "mail": "x@gmail.com"}, "guest"),
        ({"userPrincipalName": "x_gmail.com#EXT#@t.onmicrosoft.com", "mail": None}, "guest"),
        ({"userPrincipalName": "x@t.onmicrosoft.com", "userType": "Guest", "mail": None}, "guest"),
        ({"userPrincipalName": "x_demo#EXT#@t.onmicrosoft.com", "userType": "Guest", "mail": "x@demo.test"}, None),
        ({"userPrincipalName": "x@demo.test", "userType": "Member", "mail": "x@demo.test"}, None),
    ],
)
def test_case_23_guests_are_left_out_unless_their_mail_is_managed(properties, excluded):
    assert entry({"accountEnabled": True, **properties}).excluded == excluded


@pytest.mark.spec("E2")
@pytest.mark.parametrize("state", [{}, {"accountEnabled": None}, {"accountEnabled": "no"}])
def test_case_23_a_missing_account_state_is_a_fault_of_that_user_and_does_not_mean_disabled(state):
    properties = {name: value for name, value in ANN.items() if name != "accountEnabled"} | state
    found = entry(properties)
    assert found.faults == ("accountEnabled is missing",)
    assert not found.is_disabled
    assert found.excluded is None
    assert entry(ANN | {"accountEnabled": False}).is_disabled


@pytest.mark.spec("E2")
def test_what_is_absent_from_a_change_stays_and_what_is_null_is_cleared():
    now = mapping.merged(ANN, {"id": "1", "mobilePhone": None, "surname": "Moe"}, mapping.USER_SELECT)
    found = entry(now)
    assert (found.fields["mobile"], found.fields["last_name"], found.fields["first_name"]) == ("", "Moe", "Ann")
    assert found.primary is not None


@pytest.mark.spec("E2")
def test_what_is_absent_from_a_whole_object_was_never_set():
    found = {"id": "1", "userPrincipalName": "ann@demo.test"}
    now = entry(mapping.whole(ANN, found, mapping.USER_SELECT))
    assert now.fields["mobile"] == ""
    assert now.primary is None
    assert not now.faults  # whether the account is on was known before
    assert entry(mapping.whole(ANN | {"accountEnabled": False}, found, mapping.USER_SELECT)).is_disabled


@pytest.mark.spec("E2")
def test_removals_tell_those_who_can_come_back_from_those_who_cannot():
    assert mapping.removal({"id": "1", "@removed": {"reason": "changed"}}) == "soft"
    assert mapping.removal({"id": "1", "@removed": {"reason": "deleted"}}) == "hard"
    assert mapping.removal({"id": "1"}) is None
    assert entry({}, "hard").faults == ()
    assert entry({}, "hard").name == "1"


@pytest.mark.spec("S7")
def test_a_group_is_a_list_if_it_takes_mail():
    staff = {"displayName": "All  Staff\x07", "mail": "staff@demo.test", "proxyAddresses": ["SMTP:staff@demo.test"]}
    found = mapping.group_entry("2", staff | {"mailEnabled": True}, None, MANAGED)
    assert (found.kind, found.fields) == ("list", {"first_name": "", "last_name": "All Staff"})
    assert found.refs == ("2",)
    assert mapping.takes_mail(staff)
    assert not mapping.takes_mail(staff | {"mailEnabled": False})
    assert not mapping.takes_mail({"displayName": "Admins", "mail": None})


def delta(**fields):
    at = NOW - timedelta(hours=6)
    found = {"users_link": "u", "groups_link": "g", "at": at, "full_round_at": at, "scope_hash": "s"}
    return cast(DeltaDocument, found | fields)


@pytest.mark.spec("E2")
@pytest.mark.parametrize(
    "stored, hours, expected",
    [
        (delta(), 6, True),
        (None, 6, False),
        (delta(scope_hash="other"), 6, False),
        (delta(full_round_at=NOW - timedelta(days=6, hours=17)), 6, True),
        (delta(full_round_at=NOW - timedelta(days=6, hours=19)), 6, False),
        (delta(at=NOW - timedelta(days=7)), 6, False),
        (delta(), 168, False),
        (delta(full_round_at=NOW - timedelta(days=3)), 72, True),
        (delta(full_round_at=NOW - timedelta(days=6)), 72, False),
    ],
)
def test_the_whole_is_read_weekly_and_whenever_the_question_changes(stored, hours, expected):
    assert goes_on(stored, "s", NOW, timedelta(hours=hours)) is expected


@pytest.mark.spec("E2")
def test_another_filter_tenant_or_cloud_is_another_question():
    entra: Any = {"tenant": "t", "client_id": "c", "cloud": "public", "user_filter": ""}
    found = {scope_of(entra | change) for change in ({}, {"user_filter": "x"}, {"tenant": "u"}, {"cloud": "china"})}
    assert len(found) == 4
    assert scope_of(entra | {"client_secret": "other"}) == scope_of(entra)


@pytest.mark.spec("S11")
def test_who_is_missing_from_a_lagging_list_has_left_only_after_a_while():
    assert not has_left_filter(None, NOW)
    assert not has_left_filter((NOW - timedelta(minutes=30)).isoformat(), NOW)
    assert has_left_filter((NOW - timedelta(hours=2)).isoformat(), NOW)
    assert not has_left_filter("nonsense", NOW)


@pytest.mark.spec("E3")
def test_the_end_of_the_secret_in_use_is_found_among_the_applications_secrets():
    def secret(hint, end):
        return {"hint": hint, "endDateTime": end}

    found = [secret("zzz", "2026-03-02T00:00:00Z"), secret("abc", "2026-09-01T00:00:00.1234567Z")]
    assert secret_end(found, "abcdef", NOW) == datetime(2026, 9, 1, 0, 0, 0, 123456, tzinfo=UTC)
    ended = secret("abc", "2026-02-01T00:00:00Z")
    sooner = secret("abc", "2026-04-01T00:00:00Z")
    assert secret_end([*found, ended, sooner], "abcdef", NOW) == datetime(2026, 4, 1, tzinfo=UTC)
    assert secret_end(found, "qqq", NOW) is None
    assert secret_end([{"endDateTime": "2026-09-01T00:00:00Z"}], "abc", NOW) == datetime(2026, 9, 1, tzinfo=UTC)
    for nonsense in (None, [None], [secret("abc", None)], [secret("abc", "soon")], "x"):
        assert secret_end(nonsense, "abcdef", NOW) is None


@pytest.mark.spec("E1")
def test_sign_in_errors_are_told_in_plain_words():
    assert "secret is wrong" in sign_in_words([7000215])
    assert "has ended" in sign_in_words([7000222])
    assert sign_in_words([123456]) == "Microsoft refused the sign-in (AADSTS123456)."
    assert sign_in_words([]) == "Microsoft refused the sign-in."
