"""A directory on a real slapd, read whole: users, groups, members, over each kind of connection."""

from collections.abc import Iterator

import pytest

from postern_sync.source import SourceFailed
from tests.servers.farm import Farm
from tests.servers.slapd import (
    BASE,
    BLIND,
    GROUPS,
    PASSWORD,
    PEOPLE,
    Certificates,
    Everything,
    Slapd,
    fingerprint_of,
    group,
    person,
    running,
    source_of,
)  # fmt: skip


@pytest.fixture(scope="module")
def slapd(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    part = Slapd(tmp_path_factory.mktemp("slapd"), name="slapd-reading")
    part.load([person(f"user{number}") for number in range(1200)])
    part.load([
        person(
            "ann", givenName="Ann", sn="Lee", homePhone="+44 1", mobile="+44 2", company="Demo", department="Sales",
            description="Back in May", mail="Ann.Lee@demo.test",
            proxyAddresses=["SMTP:a.lee@demo.test", "smtp:ann@other.test", "SIP:ann@demo.test", "X500:/o=demo/cn=ann"],
        ),
        person("bob", mail=["bob@demo.test", "robert@demo.test"], mailAlternateAddress="bobby@demo.test"),
        person("o'brien", mail="o'brien@demo.test", userAccountControl=66050),
        (
            f"cn=Doe\\2C John,{PEOPLE}",
            {"objectClass": "user", "cn": "Doe, John", "sn": "Doe", "mail": "john@demo.test"},
        ),
        group("everybody", [f"user{number}" for number in range(1200)]),
        group("sales", ["ann", "bob"], member=[f"uid=ann,{PEOPLE}", f"UID=Bob, {PEOPLE}", f"cn=Doe\\, John,{PEOPLE}"]),
        (
            f"cn=unique,{GROUPS}",
            {"objectClass": ["groupOfUniqueNames", "mailbox"], "cn": "unique", "uniqueMember": f"UID=Ann, {PEOPLE}"},
        ),
        (
            f"cn=posix,{GROUPS}",
            {"objectClass": ["posixGroup", "mailbox"], "cn": "posix", "gidNumber": 7, "memberUid": ["ann", "Bob"]},
        ),
    ])  # fmt: skip
    with running(part, farm.processes):
        yield part


@pytest.mark.spec("L1")
@pytest.mark.parametrize("security", ["ldaps", "starttls", "none"])
async def test_a_directory_is_read_whole_over_each_kind_of_connection(slapd: Slapd, security: str):
    found = Everything()
    report = await source_of(slapd.settings(security=security, page_size=100)).read(found)
    assert (report.users, report.groups) == (1204, 4)
    assert report.base_readable
    assert report.problems == ()
    assert report.attribute_errors == 0
    assert len(found.entries) == 1208
    assert ("users", 500) in found.told  # page by page


@pytest.mark.spec("L2")
@pytest.mark.spec("S6")
@pytest.mark.spec("L3")
async def test_a_user_has_the_fields_and_addresses_of_the_directory(slapd: Slapd):
    found = Everything()
    await source_of(slapd.settings()).read(found)
    ann = found.named("uid=ann,")
    assert ann.primary is not None
    assert ann.primary.address == "a.lee@demo.test"
    assert [alias.address for alias in ann.aliases] == ["ann@other.test", "Ann.Lee@demo.test"]
    assert ann.fields == {
        "first_name": "Ann", "last_name": "Lee", "home_phone": "+44 1", "mobile": "+44 2", "company": "Demo",
        "department": "Sales", "notes": "Back in May",
    }  # fmt: skip
    assert ann.id_kind == "entryUUID"
    bob = found.named("uid=bob,")
    assert bob.primary is not None
    assert [bob.primary.address, *(alias.address for alias in bob.aliases)] == [
        "bob@demo.test", "robert@demo.test", "bobby@demo.test",
    ]  # fmt: skip


@pytest.mark.spec("S7")
async def test_members_are_found_whatever_the_group_names_them_by(slapd: Slapd):
    found = Everything()
    await source_of(slapd.settings()).read(found)
    refs = {ref: entry.name for entry in found.entries.values() for ref in entry.refs}

    def members(name: str) -> list[str]:
        return sorted(refs[ref] for ref in found.members[found.named(f"cn={name},").id])

    assert members("sales") == [f"cn=Doe\\2C John,{PEOPLE}", f"uid=ann,{PEOPLE}", f"uid=bob,{PEOPLE}"]
    assert members("unique") == [f"uid=ann,{PEOPLE}"]
    assert members("posix") == [f"uid=ann,{PEOPLE}", f"uid=bob,{PEOPLE}"]
    assert len(members("everybody")) == 1200


@pytest.mark.spec("S11")
async def test_the_customers_filters_narrow_what_is_read(slapd: Slapd):
    found = Everything()
    settings = slapd.settings(user_filter="(|(uid=ann)(mail=o'brien@demo.test))", group_filter="(cn=sales)")
    report = await source_of(settings).read(found)
    assert (report.users, report.groups) == (2, 1)
    assert found.named("uid=o'brien,").is_disabled


async def test_a_page_of_one_server_is_not_more_than_it_was_asked_for(slapd: Slapd):
    """A limited account reads in pages of at most 200."""
    found = Everything()
    settings = slapd.settings(user=f"cn=limited,{BASE}", page_size=200)
    report = await source_of(settings).read(found)
    assert report.users == 1204


@pytest.mark.spec("S16")
async def test_an_account_without_the_right_to_read_sees_nothing_and_no_base(slapd: Slapd):
    found = Everything()
    report = await source_of(slapd.settings(user=BLIND)).read(found)
    assert (report.users, report.base_readable) == (0, False)
    assert found.entries == {}


@pytest.mark.spec("L1")
async def test_a_pinned_certificate_is_trusted_by_its_fingerprint_alone(slapd: Slapd):
    pinned = fingerprint_of(slapd.tls_port)
    report = await source_of(slapd.settings(host="127.0.0.1", ca_certificates=None, fingerprint=pinned)).read(
        Everything()
    )
    assert report.users == 1204
    other = slapd.settings(ca_certificates=slapd.certificates.pem(), fingerprint="0" * 64)
    with pytest.raises(SourceFailed) as failed:
        await source_of(other).read(Everything())
    assert failed.value.step == "tls"
    assert "pinned" in failed.value.message


@pytest.mark.spec("L1")
async def test_a_password_is_not_sent_to_a_server_that_is_not_trusted(slapd: Slapd):
    for changes, words in (
        ({"ca_certificates": None}, "authority is not trusted"),
        ({"ca_certificates": Certificates().pem()}, "authority is not trusted"),
    ):
        with pytest.raises(SourceFailed) as failed:
            await source_of(slapd.settings(**changes)).read(Everything())
        assert (failed.value.step, words in failed.value.message) == ("tls", True), failed.value.message


async def test_an_untrusted_server_is_read_where_the_customer_asked_for_that(slapd: Slapd):
    settings = slapd.settings(ca_certificates=None, verify_certificate=False)
    assert (await source_of(settings).read(Everything())).users == 1204


@pytest.mark.spec("L1")
async def test_a_wrong_password_is_told_as_that(slapd: Slapd):
    with pytest.raises(SourceFailed) as failed:
        await source_of(slapd.settings(), "wrong").read(Everything())
    assert failed.value.step == "bind"
    assert failed.value.message == "The user name or the password is wrong."


async def test_no_password_is_not_taken_for_a_sign_in_as_nobody(slapd: Slapd):
    with pytest.raises(SourceFailed) as failed:
        await source_of(slapd.settings(), "").read(Everything())
    assert failed.value.step == "bind"


@pytest.mark.spec("L1")
async def test_the_second_server_is_asked_where_the_first_does_not_answer(slapd: Slapd):
    settings = slapd.settings(host="no-such-name.invalid", second_host="localhost")
    assert (await source_of(settings, PASSWORD).read(Everything())).users == 1204


@pytest.mark.spec("S11")
async def test_a_base_dn_that_is_not_there_fails_before_anything_counts(slapd: Slapd):
    with pytest.raises(SourceFailed) as failed:
        await source_of(slapd.settings(base_dn=f"ou=typo,{BASE}")).read(Everything())
    assert failed.value.step == "base_dn"
