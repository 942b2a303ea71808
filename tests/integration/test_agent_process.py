"""The agent as a process over TLS, with slapd on one side and a server that is cut off on the other."""

import asyncio
import json
import secrets
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager

import pytest
import trustme

from postern_api.app import create_app
from postern_common.runtime import http_server
from postern_common.secrets import SecretBox
from postern_sync.sources import Sources
from tests.servers.api import KEYS, api, place, prepared  # noqa: F401 - fixtures
from tests.servers.slapd import BASE, PASSWORD, READER, Slapd, group, person, running
from tests.servers.stored import Stored
from tests.servers.sync_source import ScriptedSource, SyncStory, Worker, directory_document, sync_settings
from tests.servers.waiting import eventually_async

FIRST_BYTES = 12_000


class Relay:
    """Passes connections on, counts what the agent sends, and cuts them after so many octets where it is told to."""

    def __init__(self, port):
        self._target, self.sent, self.cut_after, self.cuts = port, 0, None, 0
        self.port = 0

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _pass_on(self, reader, writer):
        there = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.wait(
                [asyncio.ensure_future(self._copy(reader, there[1], counts=True)),
                 asyncio.ensure_future(self._copy(there[0], writer, counts=False))],
                return_when=asyncio.FIRST_COMPLETED,
            )  # fmt: skip
        finally:
            for side in (writer, there[1]):
                side.transport.abort()

    async def _copy(self, reader, writer, *, counts):
        try:
            while data := await reader.read(4096):
                if counts:
                    self.sent += len(data)
                    if self.cut_after is not None and self.sent > self.cut_after:
                        self.cut_after, self.cuts = None, self.cuts + 1
                        return
                writer.write(data)
                await writer.drain()
        except (ConnectionError, OSError):
            return


@contextmanager
def tls_api(resources, folder, authority):
    """The API of the resources over TLS, in this loop; its port comes with `start`."""
    leaf = authority.issue_cert("localhost")
    (folder / "server.pem").write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    (folder / "server.key").write_bytes(leaf.private_key_pem.bytes())
    (folder / "server-ca.pem").write_bytes(authority.cert_pem.bytes())
    server = http_server(create_app(resources), "127.0.0.1", 0)
    server.config.ssl_certfile, server.config.ssl_keyfile = folder / "server.pem", folder / "server.key"
    yield server
    server.should_exit = True


@pytest.fixture
def slapd(farm, tmp_path):
    part = Slapd(tmp_path / "slapd", name="slapd-process")
    part.load([person(f"user{number:03d}", company=secrets.token_hex(60)) for number in range(300)])
    part.load([group("sales", [f"user{number:03d}" for number in range(50)])])
    with running(part, farm.processes):
        yield part


@pytest.fixture
async def served(api, tmp_path):
    """The API over TLS behind a relay."""
    with tls_api(api.resources, tmp_path, trustme.CA()) as server:
        task = asyncio.create_task(server.serve())
        await eventually_async(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with Relay(port).serving() as relay:
            yield relay
        server.should_exit = True
        await task


@pytest.fixture
def config(served, slapd, tmp_path):
    """The agent's settings, as an administrator writes them."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "ldap-ca.pem").write_text(slapd.certificates.pem())
    file = tmp_path / "config.toml"
    file.write_text(
        f'url = "https://localhost:{served.port}"\nstate_dir = "{tmp_path}/agent"\n'
        f'ca_file = "{tmp_path}/server-ca.pem"\n'
        f'[ldap]\nhost = "localhost"\nport = {slapd.tls_port}\nca_file = "{tmp_path}/ldap-ca.pem"\nuser = "{READER}"\n'
        f'password_file = "{tmp_path}/password"\n'
    )
    return file


def command(config, *words):
    return [sys.executable, "-m", "postern_sync.agent", "--config", str(config), *words]


async def run(config, *words, told=""):
    """A command of the agent's; its status and what it said."""
    process = await asyncio.create_subprocess_exec(
        *command(config, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(told.encode())
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def started(config):
    """The agent at work, ended by SIGTERM."""
    process = await asyncio.create_subprocess_exec(*command(config, "run"), stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = asyncio.create_task(process.stderr.read())
    log: list[str] = []
    try:
        yield process, log
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        log.append((await told).decode())


class Behind(SyncStory):
    """A customer of the API whose directory an agent reads."""

    def __init__(self, api, customer, place):
        settings = sync_settings(*place, secret_keys=KEYS, sync_poll_seconds=0.1)
        super().__init__(Stored(api.mongo), settings, ScriptedSource())
        self.customer_id = customer.rsplit("/", 1)[-1]
        self.sources = Sources(settings, SecretBox.from_text(KEYS), api.mongo)

    def worker(self, **options):
        return Worker(self.mongo, self.settings, self.sources, **options)


async def whole_story(api, place):
    customer = await api.customer()
    story = Behind(api, customer, place)
    name, document = directory_document(story.customer_id)
    document["ldap"] |= {"connection": "agent", "base_dn": BASE}
    await story.stored.put(name, document)
    await api.verified(customer, "demo.test")
    return customer, story, story.sources


@pytest.mark.spec("L4", "L1")
@pytest.mark.timeout(180)
async def test_from_the_code_to_users_over_a_connection_that_is_cut(api, place, served, config, slapd):
    customer, story, sources = await whole_story(api, place)
    made = (await api.post(f"{customer}/directory/agents", {"name": "here"}, expect=201)).json()
    assert (await run(config, "run"))[0] == 78  # not enrolled yet
    assert (await run(config, "enrol", told="penr_wrong\n"))[0] == 77
    status, said, wrong = await run(config, "enrol", told=made["code"] + "\n")
    assert (status, said) == (0, f"enrolled as {made['id']}\n"), wrong
    assert (config.parent / "agent/token").stat().st_mode & 0o777 == 0o600
    async with started(config) as (process, log):
        served.cut_after = served.sent + FIRST_BYTES
        first = await story.sync()
        assert (first["state"], first["counts"]["added"], served.cuts) == ("completed", 301, 1), first["reason"]
        full, served.sent = served.sent, 0
        slapd.change(f"uid=user007,ou=people,{BASE}", givenName=["James"])
        second = await story.sync()
        assert (second["state"], second["counts"]["updated"]) == ("completed", 1)
        assert served.sent < full / 3
        asked = {"customer_id": story.customer_id, "kind": "test", "provider": "ldap", "query": {}}
        answer = await sources.answer(asked | {"settings": (await story.directory())["ldap"]})
        assert (answer["ok"], answer["found"]) == (True, {"users": 300, "groups": 1})
    assert process.returncode == 0
    assert "agent_stopped" in log[0]
    assert PASSWORD not in log[0]
    status, said, _ = await run(config, "status")
    assert (status, json.loads(said)["enrolled"], json.loads(said)["being_sent"]) == (0, True, None)
    await api.delete(f"{customer}/directory/agents/{made['id']}", expect=204)
    async with started(config) as (process, log), asyncio.timeout(30):
        await process.wait()
    assert process.returncode == 77


@pytest.mark.spec("L4")
@pytest.mark.timeout(120)
async def test_a_server_of_another_authority_gets_nothing(api, served, config):
    (config.parent / "server-ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    served.sent = 0
    status, _, said = await run(config, "enrol", told="penr_code\n")
    assert status == 69
    assert f"the certificate of localhost:{served.port} is not trusted" in said
    assert served.sent < 3000


async def tunnel(reader, writer, asked):
    """A proxy for one connection: notes what it was asked for, and passes the rest on (RFC 9110 9.3.6)."""
    head = await reader.readuntil(b"\r\n\r\n")
    asked.append(head.split(b"\r\n")[0].decode())
    host, port = head.split()[1].decode().rsplit(":", 1)
    there = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

    async def copy(source, target):
        while data := await source.read(4096):
            target.write(data)
            await target.drain()

    ways = [asyncio.ensure_future(copy(reader, there[1])), asyncio.ensure_future(copy(there[0], writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for side in (writer, there[1]):
        side.close()


@pytest.mark.spec("L4")
@pytest.mark.timeout(120)
async def test_the_proxy_of_the_settings_is_taken_and_none_of_the_environment(api, served, config, monkeypatch):
    made = (await api.post(f"{await api.customer()}/directory/agents", {"name": "here"}, expect=201)).json()
    asked: list[str] = []
    proxy = await asyncio.start_server(lambda reader, writer: tunnel(reader, writer, asked), "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        assert (await run(config, "enrol", told="penr_wrong\n"))[0] == 77
        assert asked == []
        text = config.read_text().replace("[ldap]", f'proxy = "http://127.0.0.1:{port}"\n[ldap]')
        await asyncio.to_thread(config.write_text, text)
        status, _, said = await run(config, "enrol", told=made["code"] + "\n")
        assert (status, asked) == (0, [f"CONNECT localhost:{served.port} HTTP/1.1"]), said
    status, _, said = await run(config, "once")
    assert status == 69
    assert f"the proxy 127.0.0.1:{port} refuses connections" in said


@pytest.mark.spec("L4", "T2")
@pytest.mark.timeout(120)
async def test_a_server_on_this_machine_is_asked_without_tls_with_a_warning(api, tmp_path):
    made = (await api.post(f"{await api.customer()}/directory/agents", {"name": "here"}, expect=201)).json()
    server = http_server(create_app(api.resources), "127.0.0.1", 0)
    task = asyncio.create_task(server.serve())
    await eventually_async(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    config = tmp_path / "config.toml"
    text = f'url = "http://127.0.0.1:{port}"\nstate_dir = "{tmp_path}/agent"\n[ldap]\nhost = "localhost"\n'
    await asyncio.to_thread(config.write_text, text)
    status, said, warning = await run(config, "enrol", told=made["code"] + "\n")
    assert (status, said, "not encrypted" in warning) == (0, f"enrolled as {made['id']}\n", True), warning
    status, said, log = await run(config, "once")
    assert (status, said, "server_without_tls" in log) == (0, "nothing was asked for\n", True), log
    server.should_exit = True
    await task
