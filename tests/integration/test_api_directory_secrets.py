"""Secrets of a directory: sealed, never shown, kept only while they would go to the same place."""

import json
from base64 import b64encode

import pytest
import structlog
import trustme
from pydantic import SecretStr

from postern_api.__main__ import rotate_keys
from postern_api.directory.settings.store import DirectoryStore
from postern_common.secrets import SecretBox
from tests.servers.api import KEYS, api, api_settings, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import (
    CLIENT_SECRET,
    GUID,
    PASSWORD,
    entra,
    ldap,
    refused,
    set_up,
    settings,
    stored_directory,
    without,
)


def password_of(api, document):
    sealed = document["ldap"]["password"]
    return api.resources.secrets.open(sealed, f"directories/{document['customer_id']}/ldap.password").decode()


@pytest.mark.spec("L1", "E1")
async def test_secrets_go_in_and_never_come_out(api):
    customer = await api.customer()
    path = f"{customer}/directory"
    with structlog.testing.capture_logs() as logs:
        made = await set_up(api, customer)
        both = await api.put(path, settings(entra=entra()), expect=200)
        texts = [json.dumps(made), both.text, (await api.get(path)).text]
        wrong = ldap(password=PASSWORD, base_dn="nonsense")
        texts.append((await api.put(path, settings(ldap=wrong), expect=422)).text)
        texts.append((await api.put(path, settings("entra", entra=entra(tenant="?")), expect=422)).text)
    assert made["ldap"]["password_set"] is True
    assert "password" not in made["ldap"]
    assert (both.json()["entra"]["client_secret_set"], both.json()["entra"]["client_certificate_set"]) == (True, False)
    document = await stored_directory(api)
    texts += [json.dumps(document, default=str), json.dumps(await api.events(), default=str), str(logs)]
    for text in texts:
        assert PASSWORD not in text
        assert CLIENT_SECRET not in text
    assert password_of(api, document) == PASSWORD
    place = f"directories/{document['customer_id']}/entra.client_secret"
    assert api.resources.secrets.open(document["entra"]["client_secret"], place).decode() == CLIENT_SECRET


@pytest.mark.spec("L1", "R12")
async def test_a_stored_password_stays_only_while_it_goes_to_the_same_place(api):
    customer = await api.customer()
    path, silent = f"{customer}/directory", without(ldap(), "password")
    await set_up(api, customer)
    kept = await api.put(path, settings(ldap=silent | {"user_filter": "(mail=*)"}), expect=200)
    assert kept.json()["ldap"]["password_set"] is True
    assert password_of(api, await stored_directory(api)) == PASSWORD
    # The port that is meant by null is the same one.
    await api.put(path, settings(ldap=silent | {"port": 636}), expect=200)
    for other in (
        {"host": "127.0.0.10"}, {"port": 3269}, {"user": "cn=other,dc=acme"}, {"second_host": "127.0.0.11"},
        {"security": "starttls"}, {"security": "none", "port": 636}, {"verify_certificate": False},
    ):  # fmt: skip
        await refused(api, customer, "/ldap/password", ldap=silent | other)
        assert password_of(api, await stored_directory(api)) == PASSWORD
    moved = await api.put(path, settings(ldap=ldap(host="127.0.0.10", password="another one")), expect=200)
    assert moved.json()["ldap"]["host"] == "127.0.0.10"
    assert password_of(api, await stored_directory(api)) == "another one"
    # A bind without a password proves nothing, so null is for anonymous reading or an agent.
    await refused(api, customer, "/ldap/password", ldap=ldap(host="127.0.0.10", password=None))
    anonymous = await api.put(path, settings(ldap=ldap(password=None, user="")), expect=200)
    assert anonymous.json()["ldap"]["password_set"] is False
    assert (await stored_directory(api))["ldap"]["password"] is None


@pytest.mark.spec("L1", "L4")
@pytest.mark.parametrize("sent", [{}, {"host": "10.0.0.5", "password": PASSWORD}])
async def test_no_password_is_kept_where_an_agent_reads(api, sent):
    customer = await api.customer()
    path = f"{customer}/directory"
    await set_up(api, customer)
    agent = {"connection": "agent", "preset": "openldap", "base_dn": "dc=acme,dc=com"} | sent
    moved = (await api.put(path, settings(ldap=agent), expect=200)).json()
    assert (moved["ldap"]["connection"], moved["ldap"]["password_set"]) == ("agent", False)
    assert (await stored_directory(api))["ldap"]["password"] is None
    # On the way back it is asked for again.
    await refused(api, customer, "/ldap/password", ldap=without(ldap(), "password"))


@pytest.mark.spec("T10", "L1", "E1")
async def test_secrets_move_to_a_new_key_so_that_the_old_one_can_go(api, place):
    customer = await api.customer()
    await set_up(api, customer, entra=entra())
    new = "2:" + b64encode(bytes(range(1, 33))).decode()
    tag = (await api.get(f"{customer}/directory")).headers["ETag"]
    rotated = api_settings(place, secret_keys=SecretStr(f"{KEYS},{new}"))
    assert await rotate_keys(rotated) == 2
    assert await rotate_keys(rotated) == 0
    document = await stored_directory(api)
    where = f"directories/{document['customer_id']}"
    box = SecretBox.from_text(new)
    assert box.open(document["ldap"]["password"], f"{where}/ldap.password").decode() == PASSWORD
    assert box.open(document["entra"]["client_secret"], f"{where}/entra.client_secret").decode() == CLIENT_SECRET
    assert (await api.get(f"{customer}/directory")).headers["ETag"] == tag


@pytest.mark.spec("T10", "L1")
async def test_a_change_that_read_the_settings_before_secrets_moved_puts_no_old_one_back(api, place, monkeypatch):
    customer = await api.customer()
    await set_up(api, customer)
    rotated = api_settings(place, secret_keys=SecretStr(f"{KEYS},2:" + b64encode(bytes(range(1, 33))).decode()))
    read = DirectoryStore.get

    async def read_then_moved(self, session=None):
        found = await read(self, session)
        await rotate_keys(rotated)
        return found

    tag = (await api.get(f"{customer}/directory")).headers["ETag"]
    monkeypatch.setattr(DirectoryStore, "get", read_then_moved)
    changed = settings(ldap=without(ldap(page_size=100), "password"))
    await api.put(f"{customer}/directory", changed, tag=tag, expect=412)
    monkeypatch.undo()
    assert (await stored_directory(api))["ldap"]["password"].startswith("v2.")
    await api.put(f"{customer}/directory", changed, tag=tag, expect=200)


@pytest.mark.spec("E1")
async def test_a_stored_client_secret_stays_only_for_the_same_application(api):
    customer = await api.customer()
    path, silent = f"{customer}/directory", without(entra(), "client_secret")
    await set_up(api, customer, "entra")
    await api.put(path, settings("entra", entra=silent | {"user_filter": "accountEnabled eq true"}), expect=200)
    assert (await stored_directory(api))["entra"]["client_secret"] is not None
    for other in ({"tenant": "evil.onmicrosoft.com"}, {"client_id": GUID.replace("6", "7")}, {"cloud": "china"}):
        await refused(api, customer, "/entra/client_secret", provider="entra", entra=silent | other)
    await refused(api, customer, "/entra/client_secret", provider="entra", entra=entra(client_secret=None))


@pytest.mark.spec("E1", "E3")
async def test_a_certificate_takes_the_place_of_a_secret_and_tells_when_it_ends(api):
    customer = await api.customer()
    issued = trustme.CA().issue_cert("postern.test")
    pem = (issued.cert_chain_pems[0].bytes() + issued.private_key_pem.bytes()).decode()
    part = entra(client_certificate=pem, client_secret=None)
    made = await set_up(api, customer, "entra", entra=part)
    assert (made["entra"]["client_certificate_set"], made["entra"]["client_secret_set"]) == (True, False)
    assert made["entra"]["credential_expires_at"] is not None
    silent = without(part, "client_certificate")
    kept = await api.put(f"{customer}/directory", settings("entra", entra=silent), expect=200)
    assert kept.json()["entra"] == made["entra"]
    assert "PRIVATE KEY" not in json.dumps(await stored_directory(api), default=str)
    other = trustme.CA().issue_cert("postern.test")
    for wrong in (
        issued.cert_chain_pems[0].bytes().decode(),
        (issued.cert_chain_pems[0].bytes() + other.private_key_pem.bytes()).decode(),
        "no certificate",
    ):
        part = entra(client_certificate=wrong, client_secret=None)
        answer = await refused(api, customer, "/entra/client_certificate", provider="entra", entra=part)
        assert wrong not in json.dumps(answer)


@pytest.mark.spec("L1", "R12")
async def test_a_stored_password_does_not_follow_another_trust(api):
    customer = await api.customer()
    await set_up(api, customer, ldap=ldap(fingerprint="aa" * 32))
    changed = settings(ldap={**ldap(fingerprint="bb" * 32), "password": PASSWORD})
    del changed["ldap"]["password"]
    problem = (await api.put(f"{customer}/directory", changed, expect=422)).json()
    assert problem["errors"][0]["pointer"] == "/ldap/password"
