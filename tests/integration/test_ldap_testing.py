"""The test of a directory's settings and the look at its entries, as administrators see them (SPEC L1, S12)."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from postern_common.netguard import Network
from postern_common.secrets import SecretBox
from postern_local.ports import free_ports
from postern_sync.adapters.ldap.factory import answer_ldap_question, make_ldap_source
from postern_sync.settings import SyncSettings
from postern_sync.source import SourceFailed
from tests.servers.farm import Farm
from tests.servers.ldap_wire import Hang, LdapWire
from tests.servers.ldap_wire import settings as plain_settings
from tests.servers.slapd import (
    BASE,
    BLIND,
    PASSWORD,
    Certificates,
    Everything,
    Slapd,
    fingerprint_of,
    group,
    person,
    running,
)

SECRETS = SecretBox({1: b"k" * 32})
LOOPBACKS = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.fixture(scope="module")
def slapd(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    part = Slapd(tmp_path_factory.mktemp("slapd"), name="slapd-testing")
    people = [person(f"user{number}") for number in range(60)]
    part.load([
        *people,
        person("ann", givenName="Ann (x)*", proxyAddresses=["SMTP:ann@demo.test", "smtp:a.lee@demo.test"]),
        person("bob", mail="o'brien@demo.test", mailAlternateAddress="bob@demo.test"),
        group("sales", ["ann", "bob"]),
    ])  # fmt: skip
    with running(part, farm.processes):
        yield part


def service(allow_networks: tuple[Network, ...] = LOOPBACKS, seconds: float = 20.0) -> SyncSettings:
    unused = SecretStr("unused://")
    return SyncSettings(
        mongodb_uri=unused, amqp_url=unused, allow_networks=allow_networks, sync_question_seconds=seconds
    )


async def ask(kind: str, settings: Any, password: str = PASSWORD, query: Any = None, **fields: Any) -> dict[str, Any]:
    """The answer to a question of the API, with its secret sealed for the question's own place."""
    sealed = SECRETS.seal(password, "directory_requests/req_1/ldap.password") if password else None
    question: Any = {"_id": "req_1", "kind": kind, "settings": settings | {"password": sealed}, "query": query or {}}
    return await answer_ldap_question(question, SECRETS, service(**fields))


async def tried(settings: Any, password: str = PASSWORD, **fields: Any) -> dict[str, Any]:
    return await ask("test", settings, password, **fields)


def last(answer: dict[str, Any]) -> tuple[str, bool, str]:
    step = answer["steps"][-1]
    return step["step"], step["ok"], step["detail"]


@pytest.mark.spec("L1")
async def test_a_directory_that_can_be_read_passes_every_step(slapd: Slapd):
    answer = await tried(slapd.settings())
    assert [step["step"] for step in answer["steps"]] == [
        "name", "connect", "tls", "bind", "base_dn", "filter", "permission",
    ]  # fmt: skip
    assert all(step["ok"] and step["milliseconds"] >= 0 for step in answer["steps"])
    assert answer["ok"]
    assert answer["found"] == {"users": 62, "groups": 1}
    assert answer["certificate"]["names"] == ["localhost", "127.0.0.1"]
    assert answer["certificate"]["fingerprint"] == fingerprint_of(slapd.tls_port)
    assert answer["warnings"] == []


@pytest.mark.spec("L1")
@pytest.mark.parametrize(
    ("changes", "password", "step", "words"),
    [
        ({"host": "no-such-name.invalid"}, PASSWORD, "name", "not known"),
        ({"port": 1}, PASSWORD, "connect", "port 1"),
        ({"ca_certificates": None}, PASSWORD, "tls", "authority is not trusted"),
        ({"fingerprint": "0" * 64}, PASSWORD, "tls", "pinned"),
        ({}, "wrong", "bind", "password is wrong"),
        ({}, "", "bind", "password is needed"),
        ({"user": "nobody"}, PASSWORD, "bind", "full DN"),
        ({"base_dn": f"ou=typo,{BASE}"}, PASSWORD, "base_dn", "does not exist"),
        ({"user": BLIND}, PASSWORD, "base_dn", "may not see"),
        ({"user_filter": "(cn=a"}, PASSWORD, "filter", "not closed"),
        ({"user_filter": "(department=Nowhere)"}, PASSWORD, "permission", "No user is seen"),
    ],
)
async def test_the_test_tells_which_step_fails_and_why(
    slapd: Slapd, changes: dict[str, Any], password: str, step: str, words: str
):
    answer = await tried(slapd.settings(**changes), password)
    assert not answer["ok"]
    assert last(answer)[:2] == (step, False)
    assert words in last(answer)[2]
    assert all(one["ok"] for one in answer["steps"][:-1])
    assert PASSWORD not in str(answer)


@pytest.mark.spec("L1")
async def test_a_certificate_that_is_not_trusted_is_shown_with_the_reason(farm: Farm, tmp_path: Path):
    expired = Certificates(expires=datetime.now(UTC) - timedelta(days=2))
    part = Slapd(tmp_path, expired, name="slapd-expired")
    with running(part, farm.processes):
        answer = await tried(part.settings(security="starttls"))
    assert last(answer)[0] == "tls"
    assert answer["certificate"]["reason"] == "The certificate has expired."
    assert answer["certificate"]["not_after"] < datetime.now(UTC).isoformat()
    assert answer["certificate"]["issuer"]


@pytest.mark.spec("L1")
async def test_what_works_and_should_be_looked_at_is_a_warning(farm: Farm, tmp_path: Path, slapd: Slapd):
    soon = Slapd(tmp_path, Certificates(expires=datetime.now(UTC) + timedelta(days=5, hours=1)), name="slapd-soon")
    soon.load([person("ann", mail=None)])
    with running(soon, farm.processes):
        answer = await tried(soon.settings(second_host="no-such-name.invalid"))
    assert answer["ok"]
    texts = " ".join(answer["warnings"])
    assert "ends in 5 days" in texts
    assert "None of the first 1 users has an address" in texts
    assert "The second server: The server's name is not known" in texts
    for changes, words in (({"security": "none"}, "in clear"), ({"verify_certificate": False}, "not checked")):
        answer = await tried(slapd.settings(**changes))
        assert answer["ok"]
        assert words in " ".join(answer["warnings"])


@pytest.mark.spec("L1")
async def test_a_first_server_that_is_away_is_a_warning_where_the_second_answers(slapd: Slapd):
    answer = await tried(slapd.settings(host="no-such-name.invalid", second_host="localhost"))
    assert answer["ok"]
    assert answer["warnings"] == ["The first server: The server's name is not known in DNS."]


@pytest.mark.spec("R12")
async def test_a_host_inside_is_refused_without_telling_what_is_there(slapd: Slapd):
    answers = [await tried(slapd.settings(port=port), allow_networks=()) for port in (slapd.tls_port, free_ports(1)[0])]
    assert last(answers[0]) == last(answers[1])
    assert last(answers[0])[:2] == ("connect", False)


async def test_a_server_that_is_silent_costs_no_more_than_the_time_for_an_answer():
    began = time.monotonic()
    with LdapWire(lambda _search: [Hang()]).running() as wire:
        answer = await tried(plain_settings(wire.port), seconds=2)
    assert time.monotonic() - began < 4
    assert last(answer)[1:] == (False, "The server did not answer in time.")
    assert len(answer["steps"]) == 4


@pytest.mark.spec("L1")
async def test_an_account_that_may_not_see_members_is_told_so(farm: Farm, tmp_path: Path):
    """Search on `member` is granted and reading is not: groups would come out empty."""
    part = Slapd(tmp_path, name="slapd-members")
    config = part.directory / "slapd.conf"
    config.write_text(
        config.read_text().replace("access to * by", "access to attrs=member by * search\naccess to * by")
    )
    part.load([person("ann"), group("sales", ["ann"])])
    with running(part, farm.processes):
        answer = await tried(part.settings())
    assert last(answer) == ("permission", False, "The account may not read the members of groups.")


# --- entries to choose from ---


async def look(settings: Any, search: str, kind: str = "user", limit: int = 50) -> dict[str, Any]:
    return await ask("browse", settings, query={"search": search, "kind": kind, "limit": limit})


@pytest.mark.spec("S12")
async def test_entries_are_found_by_part_of_a_name_or_an_address(slapd: Slapd):
    answer = await look(slapd.settings(), "a.lee@")
    (found,) = answer["entries"]
    assert (found["kind"], found["address"], found["aliases"]) == ("user", "ann@demo.test", ["a.lee@demo.test"])
    everything = Everything()
    await make_ldap_source(_directory(slapd), SECRETS, service()).read(everything)
    assert found["external_id"] in everything.entries
    assert [one["address"] for one in (await look(slapd.settings(), "sal", "group"))["entries"]] == ["sales@demo.test"]


@pytest.mark.spec("S12")
async def test_aliases_are_found_one_by_one(slapd: Slapd):
    answer = await look(slapd.settings(), "", "alias")
    assert [(one["kind"], one["address"]) for one in answer["entries"]] == [
        ("alias", "a.lee@demo.test"),
        ("alias", "bob@demo.test"),
    ]


@pytest.mark.spec("S12")
@pytest.mark.parametrize("search", ["*", ")(uid=*", "(x)*", "\\", "o'brien", "ä"])
async def test_case_15_what_is_typed_is_a_value_and_no_filter(slapd: Slapd, search: str):
    answer = await look(slapd.settings(), search)
    expected = {"*": ["ann@demo.test"], "(x)*": ["ann@demo.test"], "o'brien": ["o'brien@demo.test"]}
    assert [one["address"] for one in answer["entries"]] == expected.get(search, [])


@pytest.mark.spec("S12")
async def test_more_entries_than_are_wanted_are_cut_and_that_is_said(slapd: Slapd):
    answer = await look(slapd.settings(page_size=10), "user", limit=25)
    assert (len(answer["entries"]), answer["truncated"]) == (25, True)
    answer = await look(slapd.settings(page_size=10), "user5", limit=25)
    assert (len(answer["entries"]), answer["truncated"]) == (11, False)


async def test_entries_of_a_directory_that_cannot_be_read_are_a_failure(slapd: Slapd):
    with pytest.raises(SourceFailed) as failed:
        await look(slapd.settings(base_dn=f"ou=typo,{BASE}"), "x")
    assert failed.value.step == "base_dn"


# --- from stored settings ---


def _directory(slapd: Slapd, **fields: Any) -> Any:
    place = "directories/cus_1/ldap.password"
    ldap: Any = slapd.settings() | {"password": SECRETS.seal(PASSWORD, place)}
    directory = {"customer_id": "cus_1", "include_hidden": True, "include_public_folders": False, "ldap": ldap}
    return directory | fields


async def test_a_password_opens_for_its_own_customer_only(slapd: Slapd):
    report = await make_ldap_source(_directory(slapd), SECRETS, service()).read(Everything())
    assert report.users == 62
    with pytest.raises(SourceFailed) as failed:
        make_ldap_source(_directory(slapd, customer_id="cus_2"), SECRETS, service())
    assert failed.value.step == "bind"
    with pytest.raises(SourceFailed):
        make_ldap_source(_directory(slapd, ldap=None), SECRETS, service())
