"""What the agent says of a server that it does not reach, or that is none of Postern's."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import httpx2
import pytest
import trustme

from postern_sync.agent.adapters.server import Refused, Revoked, Server, Unreachable
from postern_sync.agent.config import AgentConfig

PROBLEM = {"type": "urn:postern:problem:x", "detail": "Not now."}
OTHERS = "api.test:443 answers with status {}, and not as Postern does: check the url, and what stands before Postern"


def settings(folder, url="https://api.test", **fields):
    return AgentConfig.model_validate({"url": url, "state_dir": folder, "ldap": {"host": "dc1"}} | fields)


@pytest.mark.spec("L4")
@pytest.mark.parametrize(
    "status, body, error, words",
    [
        (401, PROBLEM, Revoked, ""), (404, PROBLEM, Refused, "404: Not now."),
        (503, PROBLEM, Unreachable, "api.test:443 answers with status 503: Not now."),
        (429, PROBLEM, Unreachable, "api.test:443 answers with status 429: Not now."),
        (302, None, Refused, "302: api.test:443 redirects; check the url"),
        (401, None, Unreachable, OTHERS.format(401)), (404, {"detail": "x"}, Unreachable, OTHERS.format(404)),
        (500, None, Unreachable, OTHERS.format(500)), (413, None, Refused, "413: " + OTHERS.format(413)),
        (200, None, Unreachable, OTHERS.format(200)), (200, {"ok": True}, Unreachable, OTHERS.format(200)),
        (200, [], Unreachable, OTHERS.format(200)),
    ],
)  # fmt: skip
async def test_every_answer_is_looked_at_and_no_redirect_is_followed(tmp_path, status, body, error, words):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        headers = {"Retry-After": "7", "Location": "https://elsewhere.test/"}
        given = {"text": "<html>"} if body is None else {"json": body}
        return httpx2.Response(status, headers=headers, **given)

    async with Server(settings(tmp_path), "pagt_x", httpx2.MockTransport(answer)) as server:
        with pytest.raises(error) as failed:
            await server.work([])
    assert (len(asked), str(failed.value)) == (1, words)
    if status in {429, 503}:
        assert failed.value.retry_after == 7.0


@asynccontextmanager
async def listening(answer, tls=None):
    """A server on this machine; its port."""

    async def serve(reader, writer):
        await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def nothing(_reader, _writer):
    """Say nothing, and hang up."""


async def refuse(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 407 Proxy\x1b Authentication Required\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def greet(_reader, writer):
    writer.write(b"220 mail.test ESMTP\r\n")
    await writer.drain()


async def reason(folder, url, **fields):
    async with Server(settings(folder, url, **fields), "pagt_x") as server:
        with pytest.raises(Unreachable) as failed:
            await server.work([], wait=0)
    return failed.value.reason


@pytest.mark.spec("L4")
async def test_a_server_that_is_not_reached_is_named_with_host_and_port(tmp_path):
    assert await reason(tmp_path, "https://127.0.0.1:1") == "127.0.0.1:1 refuses connections: nothing listens there"
    assert await reason(tmp_path, "https://localhost:1") == "localhost:1 refuses connections: nothing listens there"
    unknown = "the name of {} is not known, or no DNS server answers"
    assert await reason(tmp_path, "https://nowhere.invalid") == unknown.format("nowhere.invalid:443")
    async with listening(nothing) as port:
        assert await reason(tmp_path, f"http://127.0.0.1:{port}") == f"127.0.0.1:{port} broke the connection off"
    async with listening(greet) as port:
        said = await reason(tmp_path, f"https://127.0.0.1:{port}")
        assert said.startswith(f"no TLS came about with 127.0.0.1:{port}: wrong version number; check host and port")


@pytest.mark.spec("L4")
async def test_a_proxy_that_fails_is_told_from_the_server_and_its_account_is_not_told(tmp_path):
    url = "https://nowhere.invalid"
    said = await reason(tmp_path, url, proxy="http://me:secret@127.0.0.1:1")
    assert said == "the proxy 127.0.0.1:1 refuses connections: nothing listens there"
    said = await reason(tmp_path, url, proxy="http://proxy.invalid:3128")
    assert said == "the name of the proxy proxy.invalid:3128 is not known, or no DNS server answers"
    async with listening(refuse) as port:
        said = await reason(tmp_path, url, proxy=f"http://127.0.0.1:{port}")
        assert said.startswith(f"the proxy 127.0.0.1:{port} refuses to connect to nowhere.invalid:443: 407 Proxy")
        assert said.isprintable()


@pytest.mark.spec("L4")
async def test_a_server_that_is_silent_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("postern_sync.agent.adapters.server.TIMEOUT", httpx2.Timeout(0.2))
    done = asyncio.Event()

    async def wait(_reader, _writer):
        await done.wait()

    async with listening(wait) as port:
        assert await reason(tmp_path, f"http://127.0.0.1:{port}") == f"127.0.0.1:{port} does not answer in time"
        said = await reason(tmp_path, f"https://127.0.0.1:{port}")
        assert said.startswith(f"no connection to 127.0.0.1:{port} came about in time")
        done.set()


@pytest.mark.spec("L4")
async def test_a_certificate_that_is_not_trusted_says_why_and_where_to_name_its_authority(tmp_path):
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    async with listening(nothing, tls) as port:
        said = await reason(tmp_path, f"https://localhost:{port}")
        assert said == (
            f"the certificate of localhost:{port} is not trusted: unable to get local issuer certificate; where it is"
            " of an authority of your own, name that one's certificate in ca_file"
        )
        said = await reason(tmp_path, f"https://127.0.0.1:{port}", ca_file=tmp_path / "ca.pem")
        assert said == (
            f"the certificate of 127.0.0.1:{port} is not trusted: IP address mismatch, certificate is not valid for"
            " '127.0.0.1'"
        )
