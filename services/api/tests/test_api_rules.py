"""Hosts of sites, due times, addresses, cursors and problems, without any server."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from postern_api.customers.schemas import CustomerPatch
from postern_api.http.pagination import Order, Pager, place_of
from postern_api.http.problems import TITLES, Problem, from_unknown, problem_document
from postern_api.http.schemas import ListQuery
from postern_api.sites.hosts import parse_host
from postern_api.users.addresses import Addresses
from postern_api.users.deletion import due_time
from postern_api.users.schemas import UserList
from postern_common.documents import DomainState
from postern_common.errors import Rejected
from postern_common.netguard import NetGuard
from postern_common.secrets import Signer

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("text", "host"),
    [("Mail.ACME.com.", "mail.acme.com"), ("8.8.8.8", "8.8.8.8"), ("[2001:4860:4860:0::8888]", "2001:4860:4860::8888"),
     ("bücher.example", "xn--bcher-kva.example"), ("nexthop", "nexthop")],
)  # fmt: skip
@pytest.mark.spec("R1")
def test_hosts_have_one_stored_form(text, host):
    assert parse_host(text, NetGuard(), (), "/host") == host


@pytest.mark.spec("R12")
def test_an_inside_address_is_allowed_by_the_operator_only():
    with pytest.raises(Rejected) as refused:
        parse_host("127.0.0.1", NetGuard(), (), "/servers/0/host")
    assert (refused.value.code, refused.value.pointer) == ("host-refused", "/servers/0/host")
    assert parse_host("127.0.0.1", NetGuard([ip_network("127.0.0.0/8")]), (), "/host") == "127.0.0.1"


@pytest.mark.spec("S9")
def test_due_times_follow_the_delay_and_are_never_sooner_than_a_week():
    assert due_time(None, 14, NOW) == NOW + timedelta(days=14)
    assert due_time(None, None, NOW) is None
    assert due_time(NOW + timedelta(days=9), None, NOW) == NOW + timedelta(days=9)
    assert due_time(NOW + WEEK - timedelta(seconds=30), 7, NOW) == NOW + WEEK
    with pytest.raises(Problem) as refused:
        due_time(NOW + timedelta(days=6, hours=23), 30, NOW)
    assert refused.value.code == "deletion-too-soon"


@pytest.mark.spec("S9")
def test_only_the_seeds_delays_can_be_chosen():
    for days in (0, 8, -7, 365):
        with pytest.raises(ValueError, match="deletion_delay_days"):
            CustomerPatch.model_validate({"deletion_delay_days": days})


@pytest.mark.spec("U4")
def test_case_42_addresses_of_a_user_are_compared_without_case():
    addresses = Addresses.parse("Ann@Acme.com", ["a@acme.com"])
    assert addresses.keys == ["ann@acme.com", "a@acme.com"]
    assert str(addresses.primary) == "Ann@acme.com"
    for aliases in (["ANN@acme.com"], ["a@acme.com", "A@ACME.com"]):
        with pytest.raises(Problem) as refused:
            Addresses.parse("ann@acme.com", aliases)
        assert refused.value.code == "address-taken"
        assert refused.value.status == 409


@pytest.mark.spec("S5")
def test_addresses_need_domains_of_the_customer_and_take_on_their_state():
    addresses = Addresses.parse("ann@acme.com", ["ann@new.com"])
    with pytest.raises(Problem) as refused:
        addresses.check_domains({"acme.com": DomainState.VERIFIED})
    assert (refused.value.code, refused.value.pointer) == ("domain-not-managed", "/aliases/0")
    states = {"acme.com": DomainState.VERIFIED, "new.com": DomainState.PENDING}
    documents = addresses.documents("usr_x", states)
    assert [(one["key"], one["is_primary"], one["verified"]) for one in documents] == [
        ("ann@acme.com", True, True),
        ("ann@new.com", False, False),
    ]


def pager(place="list"):
    return Pager(Signer({1: b"k" * 32}, 1), place)


def test_cursors_hold_in_their_list_and_order_only():
    order = Order("name", descending=False)
    cursor = pager().seal(order, "Ünïcode \x00", "x_1")
    assert pager().open(cursor, order) == ("Ünïcode \x00", "x_1")
    assert pager().open(pager().seal(order, NOW, "x_1"), order) == (NOW, "x_1")
    for place, other in (("other", order), ("list", Order("name", descending=True)), ("list", Order("_id", False))):
        with pytest.raises(Problem, match="cursor"):
            pager(place).open(cursor, other)
    for text in ("", ".", "a", "a.b", "ü.ü", cursor[:-1], cursor + "A", "A" + cursor):
        with pytest.raises(Problem):
            pager().open(text, order)


def test_orders_always_end_in_the_id():
    assert Order.of("-name", {"name": "name"}).keys == [("name", -1), ("_id", -1)]
    assert Order.of("created_at", {"created_at": "_id"}).keys == [("_id", 1)]
    assert Order("name", descending=True).after("m", "x") == {
        "$or": [{"name": {"$lt": "m"}}, {"name": "m", "_id": {"$lt": "x"}}]
    }


def test_a_list_is_named_with_its_filters():
    first = UserList.model_validate({"search": "ann", "limit": 5})
    assert place_of("/users", first) == place_of("/users", UserList.model_validate({"search": "ann", "cursor": "x"}))
    assert place_of("/users", first) != place_of("/users", UserList.model_validate({"search": "bob"}))
    with pytest.raises(ValueError, match="Extra inputs"):
        ListQuery.model_validate({"limt": 5})


def test_problems_have_a_stable_type_and_tell_nothing_of_the_inside():
    document = problem_document("domain-exists", 409, "It is there.", members={"existing": {}})
    assert document["type"] == "urn:postern:problem:domain-exists"
    assert document["title"] == TITLES["domain-exists"]
    answer = from_unknown(RuntimeError("mongodb://user:secret@host"))
    assert answer.status_code == 503
    assert b"secret" not in answer.body
    assert answer.headers["retry-after"]
