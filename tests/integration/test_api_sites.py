"""Sites over HTTP, and the test of the way to their servers against servers that behave and that do not."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme

from tests.servers.api import api, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.waiting import eventually_async


def site(*hosts, **fields):
    return {"description": "Head office", "servers": [{"host": host} for host in hosts or ("127.0.0.9",)]} | fields


async def add(api, customer, *hosts, **fields):
    return (await api.post(f"{customer}/sites", site(*hosts, **fields), expect=201)).json()


@pytest.mark.spec("R1")
async def test_a_site_has_servers_with_ids_and_defaults(api):
    customer = await api.customer()
    answer = await api.post(f"{customer}/sites", site("mail.acme.com", "127.0.0.9"), expect=201)
    made = answer.json()
    assert answer.headers["Location"] == f"{customer}/sites/{made['id']}"
    assert made["is_default"] is True
    assert [(one["host"], one["port"], one["priority"], one["tls"]) for one in made["servers"]] == [
        ("mail.acme.com", 25, 10, "opportunistic"), ("127.0.0.9", 25, 10, "opportunistic"),
    ]  # fmt: skip
    assert len({one["id"] for one in made["servers"]}) == 2
    assert (await api.get(f"{customer}/sites/{made['id']}", expect=200)).json() == made
    assert (await api.events("SettingsChanged"))[-1]["data"]["resource"] == "site"


@pytest.mark.spec("R1")
async def test_servers_that_stay_keep_their_ids(api):
    customer = await api.customer()
    made = await add(api, customer, "a.acme.com", "b.acme.com")
    path, first = f"{customer}/sites/{made['id']}", made["servers"][0]
    servers = [
        {"host": "b.acme.com"},
        {"id": first["id"], "host": "new.acme.com", "priority": 5},
        {"host": "c.acme.com"},
    ]
    changed = (await api.patch(path, {"servers": servers}, tag='"1"', expect=200)).json()
    assert [one["host"] for one in changed["servers"]] == ["new.acme.com", "b.acme.com", "c.acme.com"]
    assert changed["servers"][0]["id"] == first["id"]
    assert changed["servers"][1]["id"] == made["servers"][1]["id"]
    assert changed["description"] == "Head office"
    unknown = await api.patch(path, {"servers": [{"id": "srv_x", "host": "a.acme.com"}]}, expect=422)
    assert unknown.json()["errors"][0]["pointer"] == "/servers/0/id"
    twice = await api.patch(path, {"servers": [{"host": "a.acme.com"}, {"host": "A.acme.com."}]}, expect=422)
    assert twice.json()["errors"][0]["pointer"] == "/servers/1"
    replaced = (await api.put(path, {"is_default": True, "servers": [{"host": "d.acme.com"}]}, expect=200)).json()
    assert replaced["description"] == ""
    await api.call("PUT", path, site(), expect=428)
    await api.put(path, site(), tag='"1"', expect=412)


@pytest.mark.spec("R1")
async def test_exactly_one_site_is_the_default(api):
    customer = await api.customer()
    made = await asyncio.gather(*(add(api, customer, f"m{n}.acme.com", is_default=n % 2 == 0) for n in range(6)))

    async def defaults():
        found = (await api.get(f"{customer}/sites", expect=200)).json()["items"]
        return [one["id"] for one in found if one["is_default"]]

    (default,) = await defaults()
    other = next(one["id"] for one in made if one["id"] != default)
    assert (await api.patch(f"{customer}/sites/{default}", {"is_default": False}, expect=409)).json()[
        "code"
    ] == "default-site"
    assert (await api.delete(f"{customer}/sites/{default}", expect=409)).json()["code"] == "default-site"
    await api.patch(f"{customer}/sites/{other}", {"is_default": True}, expect=200)
    assert await defaults() == [other]
    for one in made:
        if one["id"] != other:
            await api.delete(f"{customer}/sites/{one['id']}", expect=204)
    await api.delete(f"{customer}/sites/{other}", expect=204)
    assert await defaults() == []


@pytest.mark.spec("R12")
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0", "100.64.0.1",
     "localhost", "64:ff9b::7f00:1", "224.0.0.1", "192.168.1.1", "fec0::1", "2606:4700::1%eth0", "192.0.2.1",
     "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
)  # fmt: skip
async def test_addresses_inside_are_refused_at_once(place, host):
    async with running_api(place, allow_networks="") as api:
        customer = await api.customer()
        refused = await api.post(f"{customer}/sites", site("mail.acme.com", host), expect=422)
        assert refused.json()["code"] == "host-refused"
        assert refused.json()["errors"][0]["pointer"] == "/servers/1/host"
        assert "is not a public address" in refused.json()["detail"]


@pytest.mark.spec("R12")
async def test_our_own_mx_is_refused(place):
    async with running_api(place, api_own_mx_hosts="mx1.postern.example, 8.8.4.4") as api:
        customer = await api.customer()
        for host in ("MX1.postern.example.", "8.8.4.4"):
            assert (await api.post(f"{customer}/sites", site(host), expect=422)).json()["code"] == "own-mx"


async def test_hosts_that_are_none_are_refused(api):
    customer = await api.customer()
    for host in ("", " ", "a b", "a..b", "-x.com", "http://mail.acme.com", "mail.acme.com:25", "1.2.3", "256.1.1.1",
                 "0x7f000001", "127.0x1", "a\r\nb", "x" * 300, "mail_1.acme.com"):  # fmt: skip
        answer = await api.post(f"{customer}/sites", site(host), expect=422)
        assert answer.json()["errors"][0]["pointer"] == "/servers/0/host"
    for port in (0, 65536, -1, "25", 25.5):
        await api.post(f"{customer}/sites", {"servers": [{"host": "a.com", "port": port}]}, expect=422)
    await api.post(f"{customer}/sites", {"servers": []}, expect=422)


# -- the test of a site


@asynccontextmanager
async def smtp(replies=None, *, greeting=b"220 mail.acme.com ESMTP\r\n", context=None, silent=False):
    """A server that answers commands by their first word; its port, and what it was told."""
    told = []
    answers = {b"EHLO": b"250-mail.acme.com\r\n250 STARTTLS\r\n" if context else b"250 mail.acme.com\r\n"}
    answers |= {b"QUIT": b"221 2.0.0 bye\r\n", b"STARTTLS": b"220 go ahead\r\n"} | (replies or {})

    async def serve(reader, writer):
        try:
            if silent:
                await asyncio.sleep(60)
            writer.write(greeting)
            while line := await reader.readline():
                told.append(line.strip())
                word = line.split()[0].upper()
                writer.write(answers.get(line.strip(), answers.get(word, b"250 2.1.0 Ok\r\n")))
                await writer.drain()
                if word == b"STARTTLS":
                    await writer.start_tls(context)
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], told
    finally:
        server.close()


async def result_of(api, port, host="127.0.0.1", tls="opportunistic"):
    """The result of testing one server of a new customer that has a verified domain."""
    customer = await api.customer()
    await api.verified(customer, f"{customer[-8:]}.com")
    body = {"servers": [{"host": host, "port": port, "tls": tls}]}
    made = (await api.post(f"{customer}/sites", body, expect=201)).json()
    result = (await api.post(f"{customer}/sites/{made['id']}/test", expect=200)).json()
    assert result["site_id"] == made["id"]
    assert result["ok"] == (result["servers"][0]["result"] == "ok")
    return result["servers"][0]


@pytest.mark.spec("R2")
async def test_a_ready_server_is_shown_step_by_step_and_gets_no_message(api):
    async with smtp() as (port, told):
        result = await result_of(api, port)
    assert result["result"] == "ok"
    assert result["banner"] == "220 mail.acme.com ESMTP"
    assert result["address"] == "127.0.0.1"
    (recipient,) = result["recipients"]
    assert recipient["address"].startswith("postmaster@")
    assert (recipient["accepted"], recipient["reply"]) == (True, "250 2.1.0 Ok")
    assert [step["step"] for step in result["steps"]] == [
        "resolve", "connect", "banner", "ehlo", "mail_from", "rcpt_to", "quit",
    ]  # fmt: skip
    assert all(step["ok"] for step in result["steps"])
    assert told == [b"EHLO postern.test", b"MAIL FROM:<>", f"RCPT TO:<{recipient['address']}>".encode(), b"QUIT"]


@pytest.mark.spec("R2")
@pytest.mark.parametrize(
    ("options", "result"),
    [
        ({"greeting": b"554 go away\r\n"}, "banner_error"),
        ({"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "banner_error"),
        ({"replies": {b"MAIL": b"550 5.7.1 no\r\n"}}, "relay_denied"),
        ({"replies": {b"RCPT": b"554 5.7.1 Relay access denied\r\n"}}, "relay_denied"),
        ({"replies": {b"RCPT": b"550 5.1.1 unknown\r\n"}}, "recipient_rejected"),
        ({"replies": {b"RCPT": b"450 4.2.0 greylisted\r\n"}}, "recipient_rejected"),
    ],
)
async def test_what_is_wrong_with_a_server_is_told_apart(api, options, result):
    async with smtp(**options) as (port, _):
        assert (await result_of(api, port))["result"] == result


@pytest.mark.spec("R2")
async def test_servers_that_cannot_be_reached_are_told_apart(api, monkeypatch):
    monkeypatch.setattr("postern_api.adapters.smtp_probe.COMMAND_SECONDS", 0.3)
    async with smtp() as (port, _):
        pass
    assert (await result_of(api, port))["result"] == "refused"
    async with smtp(silent=True) as (port, _):
        assert (await result_of(api, port))["result"] == "timeout"
    assert (await result_of(api, 25, "no-such-host.invalid"))["result"] == "dns_error"


@pytest.mark.spec("R12")
async def test_a_name_that_leads_inside_is_refused_at_connect(place):
    async with running_api(place, allow_networks="") as api, smtp() as (port, told):
        from postern_api.adapters.resolver import HostResolver

        class Rebinding(HostResolver):
            async def addresses(self, host):
                return ["127.0.0.1"]

        object.__setattr__(api.resources.prober, "_resolver", Rebinding())
        result = await result_of(api, port, "mail.acme.com")
        assert result["result"] == "refused"
        assert told == []


@pytest.mark.spec("R2")
async def test_tls_is_tried_and_its_certificate_judged(api):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.acme.com").configure_cert(context)
    async with smtp(context=context) as (port, told):
        result = await result_of(api, port)
        assert result["result"] == "ok"
        assert result["tls"]["version"].startswith("TLSv1")
        assert result["tls"]["verified"] is False
        assert "certificate" in result["tls"]["problem"]
        assert sum(line.startswith(b"RCPT") for line in told) == 1
        required = await result_of(api, port, tls="required")
        assert required["result"] == "tls_error"
    async with smtp() as (port, _):
        assert (await result_of(api, port, tls="required"))["result"] == "tls_error"
    broken = {b"STARTTLS": b"454 4.7.0 not now\r\n"}
    async with smtp(broken, context=context) as (port, _):
        assert (await result_of(api, port))["result"] == "tls_error"


@pytest.mark.spec("R2")
async def test_two_tests_of_a_customer_run_at_a_time(api, monkeypatch):
    monkeypatch.setattr("postern_api.adapters.smtp_probe.COMMAND_SECONDS", 1.0)
    customer = await api.customer()
    async with smtp(silent=True) as (port, _):
        body = {"servers": [{"host": "127.0.0.1", "port": port}]}
        made = (await api.post(f"{customer}/sites", body, expect=201)).json()
        answers = await asyncio.gather(*(api.post(f"{customer}/sites/{made['id']}/test") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]


@pytest.mark.spec("R2")
async def test_a_real_next_hop_is_ready(api, smtp_sink):
    assert (await result_of(api, smtp_sink.port, smtp_sink.host))["result"] == "ok"
    # smtp-sink opens a file at MAIL and removes it when no message came.
    await eventually_async(lambda: smtp_sink.messages() == [])
