"""Active Directory as Samba's domain controller speaks it: identities, disabled accounts, large and nested groups."""

import asyncio
import hashlib
import socket
import ssl
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any

import pytest

from postern_common.netguard import NetGuard
from postern_local.unit import Unit
from postern_sync.adapters.ldap.factory import ldap_source
from postern_sync.adapters.ldap.session import Access
from postern_sync.planning.reconcile import reconcile
from postern_sync.rules.entries import Entry, StoredUser, SyncRules
from postern_sync.source import ReadReport, SourceFailed
from postern_sync.workspace import Workspace, read_entry
from tests.servers import samba as ad

pytestmark = [
    pytest.mark.skipif(ad.unusable() is not None, reason=f"no Samba domain controller here: {ad.unusable()}"),
    pytest.mark.timeout(240),
]
MANY = 1700
DOMAINS = frozenset({"demo.test"})


@pytest.fixture(scope="module")
def domain(farm):
    """A domain with some people, a large group and nested ones."""
    part = ad.SambaDomain(farm.directory / "samba", ad.free_address())
    unit = Unit(part, farm.processes)
    unit.start(180)
    part.fill([(f"OU={name}", {"objectClass": ["organizationalUnit"]}) for name in ("Staff", "Left", "Crowd")])
    part.fill(
        [
            ad.person(
                "ann",
                mail="ann.old@demo.test",
                proxyAddresses=[
                    "SMTP:ann@demo.test",
                    "smtp:a.lee@demo.test",
                    "X500:/o=demo/cn=ann",
                    "SIP:ann@demo.test",
                ],
                givenName="Ann",
                sn="Lee",
                info="the notes",
            ),
            ad.person("bob", control=ad.DISABLED, mail="bob@demo.test"),
            ad.person("cat", mail="o'brien@demo.test", proxyAddresses=["smtp:o'neil@demo.test"]),
        ]
    )
    crowd = [f"c{number}" for number in range(MANY)]
    part.fill([(f"CN={login},OU=Crowd", _member(login)) for login in crowd])
    part.fill(
        [
            ("CN=everybody,CN=Users", _group("everybody", [f"CN={login},OU=Crowd" for login in crowd])),
            ("CN=inner,CN=Users", _group("inner", ["CN=ann,CN=Users"])),
            ("CN=outer,CN=Users", _group("outer", ["CN=inner,CN=Users"])),
        ]
    )
    part.change("CN=inner,CN=Users", {"member": [f"CN=ann,CN=Users,{ad.BASE}", f"CN=outer,CN=Users,{ad.BASE}"]})
    yield part
    unit.stop()


def _member(login: str) -> dict[str, Any]:
    return ad.person(login)[1] | {"mail": f"{login}@demo.test"}


def _group(name: str, members: list[str]) -> dict[str, Any]:
    named = [f"{member},{ad.BASE}" for member in members]
    return {"objectClass": ["group"], "sAMAccountName": name, "mail": f"{name}@demo.test", "member": named}


def _fingerprint(host: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host, 636), timeout=5) as plain, context.wrap_socket(plain) as secured:
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


def _settings(domain: ad.SambaDomain, **fields: Any) -> Any:
    base: dict[str, Any] = {
        "connection": "direct",
        "preset": "samba",
        "host": domain.host,
        "port": None,
        "second_host": None,
        "security": "ldaps",
        "verify_certificate": True,
        "ca_certificates": None,
        "fingerprint": _fingerprint(domain.host),
        "user": ad.ADMINISTRATOR,
        "password": None,
        "base_dn": ad.BASE,
        "user_filter": "",
        "group_filter": "",
        "attributes": {},
        "primary_from_upn": False,
        "page_size": 500,
    }
    return base | fields


class Read:
    """What was read, by the first part of the name."""

    def __init__(self, workspace: Workspace, report: ReadReport) -> None:
        self.workspace = workspace
        self.report = report
        found = [read_entry(data) for (data,) in workspace.rows("SELECT data FROM entry")]
        self.entries = {entry.name.partition(",")[0].partition("=")[2].lower(): entry for entry in found}

    def members(self, group: str) -> set[str]:
        rows = self.workspace.rows("SELECT ref FROM member WHERE group_id = ?", (self.entries[group].id,))
        return {ref for (ref,) in rows}


async def _read(domain: ad.SambaDomain, password: str = ad.PASSWORD, **fields: Any) -> Read:
    access = Access(_settings(domain, **fields), password, NetGuard((IPv4Network("127.0.0.0/8"),)))
    workspace = Workspace()
    report = await ldap_source(access, datetime.now(UTC)).read(workspace)
    return Read(workspace, report)


def _stored(entry: Entry) -> StoredUser:
    assert entry.primary is not None
    return StoredUser(
        id=f"usr_{entry.id}",
        version=1,
        source="ldap",
        state="active",
        flag_reason=None,
        kind=entry.kind,
        external_id=entry.id,
        immutable_id=entry.immutable_id,
        directory_state="present",
        absent_runs=0,
        primary=entry.primary,
        aliases=(),
        fields=dict(entry.fields),
    )


@pytest.mark.spec("L2", "L3", "S6")
async def test_people_are_read_with_identity_addresses_and_state(domain):
    read = await _read(domain)
    assert read.report.problems == ()
    assert read.report.base_readable
    assert read.report.usn is not None
    assert read.report.invocation_id
    ann = read.entries["ann"]
    assert ann.id_kind == "objectGUID"
    assert len(ann.id) == 36
    assert ann.primary is not None
    assert ann.primary.address == "ann@demo.test"
    assert {alias.address for alias in ann.aliases} == {"a.lee@demo.test", "ann.old@demo.test"}
    assert ann.fields["first_name"] == "Ann"
    assert ann.fields["notes"] == "the notes"
    assert (ann.is_disabled, read.entries["bob"].is_disabled) == (False, True)
    cat = read.entries["cat"]
    assert {box.address for box in (cat.primary, *cat.aliases) if box} == {"o'brien@demo.test", "o'neil@demo.test"}
    assert read.entries["krbtgt"].is_disabled


@pytest.mark.spec("L2", "S7")
async def test_a_group_of_more_than_1500_and_nested_ones_are_read_whole(domain):
    read = await _read(domain)
    assert len(read.members("everybody")) == MANY
    assert read.entries["everybody"].kind == "list"
    assert len(read.members("outer")) == 1
    assert len(read.members("inner")) == 2


@pytest.mark.spec("L2", "S2")
async def test_a_rename_and_a_move_are_the_same_user_and_a_deletion_is_an_absence(domain):
    domain.fill([ad.person("eve", mail="eve@demo.test"), ad.person("dan", mail="dan@demo.test")])
    before = await _read(domain)
    eve, dan = before.entries["eve"], before.entries["dan"]
    domain.move("CN=eve,CN=Users", "CN=Eve Moved", "OU=Left")
    domain.change("CN=Eve Moved,OU=Left", {"mail": ["eve.moved@demo.test"]})
    domain.remove("CN=dan,CN=Users")
    after = await _read(domain)
    moved = after.entries["eve moved"]
    assert moved.id == eve.id
    after.workspace.put_stored([_stored(eve), _stored(dan)])
    reconcile(after.workspace, SyncRules(source="ldap", managed=DOMAINS, verified=DOMAINS))
    ours = [item for item in after.workspace.items() if item.user_id in {f"usr_{eve.id}", f"usr_{dan.id}"}]
    assert [(item.action, item.label) for item in ours if item.action == "flag"] == [("flag", "dan@demo.test")]
    assert {item.change.get("email") for item in ours if item.action == "update"} == {"eve.moved@demo.test"}
    assert after.report.usn is not None
    assert before.report.usn is not None
    assert after.report.usn > before.report.usn


@pytest.mark.spec("L1")
async def test_a_wrong_password_is_told_as_such(domain):
    with pytest.raises(SourceFailed) as failed:
        await _read(domain, password="not the password")
    assert failed.value.step == "bind"
    assert "password" in failed.value.message.lower()


@pytest.mark.spec("L1")
async def test_a_certificate_for_another_name_is_refused_without_a_pin(domain):
    with pytest.raises(SourceFailed) as failed:
        await _read(domain, fingerprint=None, ca_certificates=domain.certificate_authority)
    assert failed.value.step == "tls"


@pytest.mark.spec("L1")
async def test_starttls_reads_the_same(domain):
    secured, upgraded = await asyncio.gather(_read(domain), _read(domain, security="starttls"))
    assert secured.entries.keys() == upgraded.entries.keys()


@pytest.mark.spec("S11")
async def test_a_custom_filter_narrows_users_and_an_ou_narrows_all(domain):
    filtered = await _read(domain, user_filter="(givenName=Ann)")
    assert {name for name, entry in filtered.entries.items() if entry.kind == "user"} == {"ann"}
    crowd = await _read(domain, base_dn=f"OU=Crowd,{ad.BASE}")
    assert len(crowd.entries) == MANY
