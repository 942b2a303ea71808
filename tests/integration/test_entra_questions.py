"""Questions to an Entra tenant: tests of settings, a look at its entries; certificates; when the secret ends."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postern_sync.source import SourceFailed
from tests.servers.entra import entra, graph, graph_server  # noqa: F401
from tests.servers.graph_fake import CLIENT, ROLES, SECRET, group, user


def steps(answer):
    return [(step["step"], step["ok"]) for step in answer["steps"]]


def faults(answer):
    return [step["detail"] for step in answer["steps"] if not step["ok"]]


@pytest.mark.spec("E1")
async def test_the_test_goes_through_sign_in_each_permission_and_the_filter(entra, graph):
    graph.add("users", *(user(number) for number in range(3)))
    graph.add("groups", group("staff"), group("admins", mailEnabled=False))
    answer = await entra.ask("test")
    assert answer["ok"]
    assert steps(answer) == [("token", True), *[("permission", True)] * 4, ("filter", True)]
    assert answer["found"] == {"users": 3, "groups": 1}
    assert answer["warnings"] == []
    told = " ".join(step["detail"] for step in answer["steps"])
    assert all(role in told for role in ROLES)
    assert SECRET not in str(answer)
    assert "localhost" not in str(answer)


@pytest.mark.spec("E1")
@pytest.mark.parametrize("missing", ROLES)
async def test_the_missing_permission_is_named_and_no_other(entra, graph, missing):
    graph.add("users", user(1))
    graph.add("groups", group("staff"))
    graph.roles = tuple(role for role in ROLES if role != missing)
    answer = await entra.ask("test")
    assert not answer["ok"]
    [detail] = faults(answer)
    assert detail.startswith(f"{missing} (")
    assert "is missing: add it" in detail


@pytest.mark.spec("E1")
async def test_a_permission_whose_consent_does_not_count_yet_is_told_apart(entra, graph):
    graph.add("users", user(1))
    graph.fail("/users", 403)
    [detail] = faults(await entra.ask("test"))
    assert detail.startswith("User.Read.All (users) is granted, but Microsoft Graph refuses")


@pytest.mark.spec("E1")
@pytest.mark.parametrize(
    "fields, step, text",
    [
        ({"client_secret": "wrong"}, "token", "The client secret is wrong"),
        ({"client_id": CLIENT.replace("9", "8")}, "token", "The application is not known in this tenant"),
        ({"tenant": "nobody.example.test"}, "token", "The tenant is not known"),
        ({"user_filter": "department like 'Sales'"}, "filter", "Invalid filter clause"),
    ],
)
async def test_the_test_says_which_step_fails_and_why(entra, graph, fields, step, text):
    graph.add("users", user(1))
    answer = await entra.ask("test", **fields)
    assert not answer["ok"]
    assert [found["step"] for found in answer["steps"] if not found["ok"]] == [step]
    assert text in faults(answer)[0]


@pytest.mark.spec("E1")
async def test_a_tenant_that_is_away_is_told_as_such(entra, graph):
    graph.fail("/users", 503, times=99)
    assert "too busy" in faults(await entra.ask("test"))[0]
    graph.fail("/11111111", 0, times=99)
    assert faults(await entra.ask("test")) == ["Microsoft's sign-in service cannot be reached just now."]


@pytest.mark.spec("E1", "E3")
async def test_the_test_counts_who_fits_and_warns_of_what_ends_soon(entra, graph):
    graph.add("users", user(1, department="Sales"), user(2))
    ends = datetime.now(UTC) + timedelta(days=9, hours=1)
    graph.secrets = [{"hint": SECRET[:3], "endDateTime": ends.isoformat().replace("+00:00", "Z")}]
    answer = await entra.ask("test", user_filter="department eq 'Sales'")
    assert answer["found"]["users"] == 1
    assert answer["warnings"] == ["The client secret ends in 9 days."]
    answer = await entra.ask("test", user_filter="department eq 'Nobody'")
    assert "The filter fits nobody." in answer["warnings"]


@pytest.mark.spec("E3")
async def test_when_the_secret_ends_is_noted_while_it_is_still_that_secret(entra, graph):
    graph.add("users", user(1))
    ends = (datetime.now(UTC) + timedelta(days=90)).replace(microsecond=0)
    graph.secrets = [{"hint": SECRET[:3], "endDateTime": ends.isoformat().replace("+00:00", ".1234567Z")}]
    await entra.read(keeps=False)
    assert (await entra.directory())["entra"]["credential_expires_at"] is None
    await entra.read()
    noted = (await entra.directory())["entra"]["credential_expires_at"]
    assert noted.replace(microsecond=0) == ends
    graph.fail("/applications", 403)
    assert (await entra.read()).report.problems == ()
    assert (await entra.directory())["entra"]["credential_expires_at"] == noted


@pytest.mark.spec("S12")
async def test_a_look_at_entries_finds_by_names_and_addresses(entra, graph):
    graph.page_size = 100
    graph.add("users", *(user(number) for number in range(5)), user("o'neil", displayName="Shane O'Neil"))
    graph.change("users", "id-1", proxyAddresses=["SMTP:u1@example.test", "smtp:sales.uk@example.test"])
    graph.add("groups", group("sales"), group("admins", mailEnabled=False))

    async def look(kind, search, limit=10):
        found = await entra.ask("browse", {"kind": kind, "search": search, "limit": limit})
        return [(one["external_id"], one["address"]) for one in found["entries"]], found["truncated"]

    assert await look("user", "Shane O'") == ([("id-o'neil", "uo'neil@example.test")], False)
    assert await look("user", "u3@") == ([("id-3", "u3@example.test")], False)
    assert await look("group", "") == ([("id-sales", "sales@example.test")], False)
    assert await look("group", "admins") == ([], False)
    assert await look("alias", "sales.") == ([("id-1", "sales.uk@example.test")], False)
    found, is_cut = await look("user", "", limit=2)
    assert (len(found), is_cut) == (2, True)


@pytest.mark.spec("S12")
async def test_a_look_without_permission_says_so(entra, graph):
    graph.roles = ()
    with pytest.raises(SourceFailed) as failure:
        await entra.ask("browse", {"kind": "user", "search": "a", "limit": 5})
    assert failure.value.step == "permission"


def certificate(key):
    """A certificate with its key as PEM, and the certificate alone."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "postern")])
    now = datetime.now(UTC)
    found = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (found + secret).decode(), found


@pytest.mark.spec("E2")
async def test_a_certificate_signs_in_in_place_of_a_secret(entra, graph):
    whole, graph.certificate = certificate(rsa.generate_private_key(65537, 2048))
    graph.add("users", user(1))
    graph.secret = None
    await entra.set_entra(client_secret=None, client_certificate=whole)
    assert (await entra.read()).here == ["id-1"]
    assert (await entra.ask("test", client_secret=None, client_certificate=whole))["ok"]
    _, graph.certificate = certificate(rsa.generate_private_key(65537, 2048))
    with pytest.raises(SourceFailed, match="not one that the application knows"):
        await entra.read()


@pytest.mark.spec("E1")
async def test_a_certificate_that_cannot_sign_is_told_as_such(entra, graph):
    whole, graph.certificate = certificate(ec.generate_private_key(ec.SECP256R1()))
    await entra.set_entra(client_secret=None, client_certificate=whole)
    with pytest.raises(SourceFailed, match="needs an RSA key") as failure:
        await entra.read()
    assert failure.value.step == "token"


@pytest.mark.spec("E1")
async def test_a_secret_sealed_for_another_place_is_not_used(entra, graph):
    await entra.set(entra=entra.entra("directories/cus_other"))
    with pytest.raises(SourceFailed, match="enter it again"):
        await entra.read()
    await entra.set_entra(client_secret=None)
    with pytest.raises(SourceFailed, match="needed"):
        await entra.read()
