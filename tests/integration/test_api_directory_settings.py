"""A customer's directory set up, replaced, switched over and off."""

import asyncio
from datetime import timedelta

import pytest
import trustme

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from postern_deletion.removal.loop import Removal
from tests.servers.api import api, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.directory import (
    GUID,
    entra,
    ldap,
    put_run,
    put_user,
    refused,
    set_up,
    settings,
    stored_directory,
    without,
)


@pytest.mark.spec("S1", "S8", "S9", "L1")
async def test_a_directory_is_set_up_with_safe_defaults(api):
    customer = await api.customer(deletion_delay_days=14)
    path = f"{customer}/directory"
    await api.get(path, expect=404)
    answer = await api.call("PUT", path, settings(), expect=201)
    made = answer.json()
    assert answer.headers["Location"] == path
    assert (made["provider"], made["enabled"], made["interval_hours"], made["frozen"]) == ("ldap", True, 6, False)
    assert (made["include_disabled"], made["include_public_folders"], made["include_hidden"]) == (False, False, True)
    assert (made["absent_runs"], made["freeze_on_disable"], made["deletion_delay_days"]) == (1, False, 14)
    assert made["guard"]["mode"] == "both"
    assert (made["guard"]["max_count"], made["guard"]["max_percent"], made["guard"]["min_floor"]) == (500, 5.0, 5)
    assert (made["ldap"]["security"], made["ldap"]["verify_certificate"]) == ("ldaps", True)
    assert (made["entra"], made["last_good"], made["last_run_id"], made["warnings"]) == (None, None, None, [])
    shown = await api.get(path, expect=200)
    assert shown.json() == made
    assert shown.headers["ETag"] == answer.headers["ETag"]
    document = await stored_directory(api)
    assert document["next_run_at"] - document["created_at"] == timedelta(hours=6)
    (kept,) = await api.all("customers")
    assert kept["sync_interval_seconds"] == 6 * 3600
    (event,) = [one for one in await api.events("SettingsChanged") if one["data"]["resource"] == "directory"]
    assert (event["data"]["resource_id"], event["data"]["action"]) == (made["id"], "created")


@pytest.mark.spec("S1")
async def test_there_is_one_directory_and_replacing_it_needs_the_tag(api):
    customer = await api.customer()
    path = f"{customer}/directory"
    await api.put(path, settings(), tag='"1"', expect=412)
    await api.put(path, settings(), expect=201)
    await api.call("PUT", path, settings(), expect=428)
    await api.put(path, settings(), tag='"9"', expect=412)
    replaced = await api.put(path, settings(interval_hours=72, absent_runs=2), tag='"1"', expect=200)
    assert (replaced.json()["interval_hours"], replaced.json()["absent_runs"]) == (72, 2)
    tag = replaced.headers["ETag"]
    assert (await api.get(path)).headers["ETag"] == tag
    again = await api.put(path, settings(), tag=tag, expect=200)
    assert (again.json()["interval_hours"], again.json()["absent_runs"]) == (6, 1)
    assert len(await api.all("directories")) == 1


@pytest.mark.spec("S1")
async def test_of_several_first_settings_one_is_the_first(api):
    customer = await api.customer()
    path = f"{customer}/directory"
    first = await asyncio.gather(*(api.call("PUT", path, settings()) for _ in range(4)))
    assert sorted(answer.status_code for answer in first) == [201, 428, 428, 428]
    # Whoever takes whatever is there is not refused for another's change.
    answers = await asyncio.gather(*(api.put(path, settings(absent_runs=number)) for number in range(1, 5)))
    assert [answer.status_code for answer in answers] == [200] * 4
    other = f"{await api.customer()}/directory"
    answers = await asyncio.gather(*(api.put(other, settings()) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 201]


@pytest.mark.spec("L1", "S11")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", ""), ("host", "not a host"), ("host", "dc1..acme.com"), ("base_dn", ""), ("base_dn", "acme.com"),
        ("base_dn", "dc=acme,"), ("user_filter", "mail=*"), ("user_filter", "(mail=*)(cn=*)"),
        ("user_filter", "(|(a=b)"), ("group_filter", "(cn"), ("ca_certificates", "nonsense"), ("fingerprint", "abc"),
        ("second_host", "a b"),
    ],
)  # fmt: skip
async def test_a_mistake_in_ldap_settings_names_its_field(api, field, value):
    await refused(api, await api.customer(), f"/ldap/{field}", ldap=ldap(**{field: value}))
    assert await api.all("directories") == []


@pytest.mark.spec("L1")
@pytest.mark.parametrize(("host", "says_port"), [("127.0.0.9:8389", True), ("[::1]:389", True), ("a:b", False)])
async def test_a_host_with_a_port_is_told_where_the_port_goes(api, host, says_port):
    problem = await refused(api, await api.customer(), "/ldap/host", ldap=ldap(host=host))
    assert (problem["code"], problem["title"]) == ("invalid-host", "Not a host")
    assert ("`port`" in problem["detail"]) is says_port


@pytest.mark.spec("L1", "S6")
async def test_other_mistakes_are_named_too(api):
    customer = await api.customer()
    await refused(api, customer, "/ldap/attributes/shoe_size", ldap=ldap(attributes={"shoe_size": "x"}))
    for name in ("a b", "unicodePwd", "userPassword;lang-en", "2.5.4.35"):
        await refused(api, customer, "/ldap/attributes/notes", ldap=ldap(attributes={"notes": name}))
    await refused(api, customer, "/ldap/user_filter", ldap=ldap(user_filter="(&(cn=*)(userPassword=a*))"))
    for port in (0, 65536, "636", 1.5, True):
        await refused(api, customer, "/ldap/port", ldap=ldap(port=port))
    await refused(api, customer, "/ldap", ldap=None)
    await refused(api, customer, "/entra", provider="entra", entra=None)
    await refused(api, customer, "/interval_hours", interval_hours=7)
    await refused(api, customer, "/guard/max_percent", guard={"max_percent": 101})
    await refused(api, customer, "/ldap/colour", ldap=ldap(colour="red"))
    await refused(api, customer, "/provider", provider="csv")


@pytest.mark.spec("E1", "S11")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant", "acme"), ("tenant", "https://acme.com"), ("client_id", "acme"), ("client_id", GUID + "0"),
        ("user_filter", "department eq 'Sales"), ("user_filter", "(department eq 'x'"), ("user_filter", "Sales"),
        ("user_filter", "$filter=department eq 'x'"), ("user_filter", "a eq 1)"),
    ],
)  # fmt: skip
async def test_a_mistake_in_entra_settings_names_its_field(api, field, value):
    await refused(api, await api.customer(), f"/entra/{field}", provider="entra", entra=entra(**{field: value}))


@pytest.mark.spec("S11", "E1")
async def test_what_microsoft_and_rfc_4515_allow_is_taken(api):
    customer = await api.customer()
    for text in (
        "department eq 'O''Brien'", "startswith(displayName,'a')", "assignedLicenses/$count ne 0",
        "not(userType eq 'Guest') and accountEnabled eq true", "proxyAddresses/any(p:startsWith(p,'smtp:'))",
    ):  # fmt: skip
        await api.put(f"{customer}/directory", settings("entra", entra=entra(user_filter=text)))
        assert (await stored_directory(api))["entra"]["user_filter"] == text
    tenant = entra(tenant=GUID.upper(), client_id=GUID.upper())
    changed = await api.put(f"{customer}/directory", settings("entra", entra=tenant), expect=200)
    assert (changed.json()["entra"]["tenant"], changed.json()["entra"]["client_id"]) == (GUID, GUID)


@pytest.mark.spec("R12")
async def test_inside_addresses_are_refused_unless_an_agent_reads(place):
    async with running_api(place, allow_networks="") as api:
        customer = await api.customer()
        for host in ("127.0.0.1", "10.0.0.5", "169.254.169.254", "[::1]", "localhost"):
            problem = await refused(api, customer, "/ldap/host", ldap=ldap(host=host))
            assert problem["code"] == "host-refused"
        await refused(api, customer, "/ldap/second_host", ldap=ldap(host="dc1.acme.com", second_host="192.168.0.1"))
        made = await set_up(api, customer, ldap={"connection": "agent", "host": "10.0.0.5"})
        assert made["ldap"]["host"] == "10.0.0.5"
        # The agent's server is none that Postern itself may go to.
        await refused(api, customer, "/ldap/host", ldap=ldap(host="10.0.0.5"))


@pytest.mark.spec("L1")
async def test_going_in_clear_is_possible_and_warned_of(api):
    customer = await api.customer()
    made = await set_up(api, customer, ldap=ldap(security="none"))
    assert "clear" in made["warnings"][0]
    path = f"{customer}/directory"
    loose = await api.put(path, settings(ldap=ldap(verify_certificate=False)), expect=200)
    assert "certificate" in loose.json()["warnings"][0]
    print_ = "AB:" * 31 + "CD"
    pinned = await api.put(path, settings(ldap=ldap(fingerprint=print_)), expect=200)
    assert (pinned.json()["warnings"], pinned.json()["ldap"]["fingerprint"]) == ([], "ab" * 31 + "cd")
    unguarded = await api.put(path, settings(guard={"mode": "off"}), expect=200)
    assert "guard" in unguarded.json()["warnings"][0]


@pytest.mark.spec("L1")
async def test_authorities_are_kept_as_they_were_given(api):
    pem = trustme.CA().cert_pem.bytes().decode()
    made = await set_up(api, await api.customer(), ldap=ldap(ca_certificates=pem))
    assert made["ldap"]["ca_certificates"] == pem


@pytest.mark.spec("S1")
async def test_the_provider_is_changed_after_the_consequences_were_told(api):
    customer = await api.customer()
    path = f"{customer}/directory"
    await set_up(api, customer)
    for number in range(3):
        await put_user(api, customer, f"u{number}@acme.com")
    await put_user(api, customer, "by-hand@acme.com", source="manual")
    running = await put_run(api, customer, state="running", is_open=True)
    before = await stored_directory(api)
    told = (await api.put(path, settings("entra"), expect=409)).json()
    assert told["code"] == "confirmation-required"
    assert [one["code"] for one in told["consequences"]] == [
        "provider-disabled", "users-may-become-conflicts", "next-run-held",
    ]  # fmt: skip
    assert told["consequences"][1]["users"] == 3
    await api.put(f"{path}?confirm=false", settings("entra"), expect=409)
    assert await stored_directory(api) == before
    assert await api.events("ProviderSwitched") == []
    changed = (await api.put(f"{path}?confirm=true", settings("entra"), expect=200)).json()
    # The other's settings stay for the way back.
    assert (changed["provider"], changed["ldap"]["password_set"]) == ("entra", True)
    (event,) = await api.events("ProviderSwitched")
    assert (event["data"]["from_source"], event["data"]["to_source"]) == ("ldap", "entra")
    assert (await api.events("SettingsChanged"))[-1]["data"]["action"] == "updated"
    assert (await api.get(f"{path}/runs/{running['_id']}")).json()["cancel_requested"] is True
    back = without(settings(), "ldap")
    assert (await api.put(path, back, expect=409)).json()["code"] == "confirmation-required"
    assert (await api.put(f"{path}?confirm=true", back, expect=200)).json()["ldap"]["host"] == "127.0.0.9"


@pytest.mark.spec("S14")
@pytest.mark.parametrize("freeze", [False, True])
async def test_switching_off_keeps_all_users_and_forgets_secrets(api, freeze):
    customer = await api.customer()
    path = f"{customer}/directory"
    await set_up(api, customer, freeze_on_disable=freeze)
    user = await put_user(api, customer, "ann@acme.com")
    waiting = (await api.post(f"{path}/sync", expect=202)).json()
    await api.call("DELETE", path, expect=428)
    await api.delete(path, tag='"7"', expect=412)
    await api.delete(path, tag='"1"', expect=204)
    shown = (await api.get(path, expect=200)).json()
    assert (shown["enabled"], shown["frozen"], shown["next_run_at"]) == (False, freeze, None)
    assert (shown["ldap"]["host"], shown["ldap"]["password_set"]) == ("127.0.0.9", False)
    assert (await stored_directory(api))["ldap"]["password"] is None
    assert [one["_id"] for one in await api.all("users")] == [user["_id"]]
    assert (await api.get(f"{path}/runs/{waiting['id']}")).json()["state"] == "cancelled"
    (kept,) = await api.all("customers")
    assert kept["sync_interval_seconds"] is None
    both = await api.put(path, settings(enabled=False, entra=entra(credential_expires_at="2027-01-31T12:00:00Z")))
    await api.delete(path, expect=204)
    # Nobody is warned of the end of a secret that is no longer there.
    assert both.json()["entra"]["credential_expires_at"] == "2027-01-31T12:00:00Z"
    assert (await api.get(path)).json()["entra"]["credential_expires_at"] is None
    # On again: with the secret, which is forgotten.
    await refused(api, customer, "/ldap/password", ldap=without(ldap(), "password"))
    on = (await api.put(path, settings(freeze_on_disable=freeze), expect=200)).json()
    assert (on["enabled"], on["frozen"]) == (True, False)
    assert on["next_run_at"] is not None


@pytest.mark.spec("S14")
async def test_1h_7_deletions_run_on_while_switched_off_unless_frozen(api):
    customer = await api.customer()
    path = f"{customer}/directory"
    assert (await set_up(api, customer, enabled=False))["frozen"] is False
    assert (await api.put(path, settings(enabled=False, freeze_on_disable=True), expect=200)).json()["frozen"] is True
    # Other settings that stay switched off let nobody go whom nobody spoke of.
    kept = (await api.put(path, settings(enabled=False, interval_hours=24), expect=200)).json()
    assert (kept["frozen"], kept["freeze_on_disable"]) == (True, True)
    said = await api.put(path, settings(enabled=False, freeze_on_disable=False), expect=200)
    assert (said.json()["frozen"], said.json()["freeze_on_disable"]) == (False, False)
    assert (await api.put(path, settings(freeze_on_disable=True), expect=200)).json()["frozen"] is False


@pytest.mark.spec("S8")
async def test_a_shorter_interval_brings_the_next_run_nearer_and_a_longer_one_moves_nothing_back(api):
    customer = await api.customer()
    path = f"{customer}/directory"
    await set_up(api, customer, interval_hours=168)
    far = (await stored_directory(api))["next_run_at"]
    await api.put(path, settings(interval_hours=6), expect=200)
    near = (await stored_directory(api))["next_run_at"]
    assert near < far
    await api.put(path, settings(interval_hours=168), expect=200)
    assert (await stored_directory(api))["next_run_at"] == near


@pytest.mark.spec("T2")
async def test_settings_belong_to_their_customer(api):
    one, two = await api.customer("One"), await api.customer("Two")
    await set_up(api, one)
    await api.get(f"{two}/directory", expect=404)
    await set_up(api, two, "entra")
    assert (await api.get(f"{one}/directory")).json()["provider"] == "ldap"
    found = await api.mongo.collection(Collections.DIRECTORIES, PLATFORM).count({})
    assert found == 2


@pytest.mark.spec("T9")
async def test_a_removed_customers_directory_is_read_no_more(api):
    customer, other = await api.customer("One"), await api.customer("Two")
    for path in (customer, other):
        await set_up(api, path)
        await api.post(f"{path}/directory/exceptions", {"kind": "user", "external_id": "1"}, expect=201)
    await api.delete(customer, expect=204)
    kept = {other.rsplit("/", 1)[-1]}
    assert {one["customer_id"] for one in await api.all("directories")} == kept
    await Removal(api.mongo).look()
    assert {one["customer_id"] for one in await api.all("directory_exceptions")} == kept
