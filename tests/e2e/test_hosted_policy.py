"""An MTA-STS policy as a customer sets it up, on the whole stack: testing, published, looked at, enforced, ended."""

import asyncio
import contextlib
import ssl
import threading

import httpx2
import pytest
import trustme

from postern_local.faults import StackFault
from postern_local.ports import free_ports
from tests.servers.stack import Stack
from tests.servers.waiting import eventually

pytestmark = pytest.mark.spec("R11")
NAME = "hosted.scratch.test"
MX = "mx.scratch.test"


class TlsEnd:
    """What stands before the policy server and ends TLS, in a loop of its own; passes octets on."""

    def __init__(self, context, port, to_port):
        self._context, self._port, self._to_port = context, port, to_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _serve(self, reader, writer):
        inside_reader, inside_writer = await asyncio.open_connection("127.0.0.1", self._to_port)

        async def pump(source, sink):
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()

        inwards = asyncio.ensure_future(pump(reader, inside_writer))
        await pump(inside_reader, writer)
        inwards.cancel()
        writer.close()


@pytest.fixture(scope="module")
def ports():
    return free_ports(2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path_factory.getbasetemp() / "authority.pem"))
    return made


@pytest.fixture(scope="module")
def stack(farm, ports, authority, tmp_path_factory):
    policy_port, https_port = ports
    settings = {
        "POSTERN_API_OWN_MX_HOSTS": MX,
        "POSTERN_API_POLICY_HOST": "policy.scratch.test",
        "POSTERN_API_POLICY_PORT": str(policy_port),
        "POSTERN_DNS_OWN_MX_HOSTS": MX,
        "POSTERN_DNS_HTTPS_PORT": str(https_port),
        "POSTERN_DNS_LEASE_SECONDS": "30",
        "POSTERN_DNS_REPORT_CONTACT": "tls-reports@postern.scratch.test",
        "SSL_CERT_FILE": str(tmp_path_factory.getbasetemp() / "authority.pem"),
    }
    made = Stack(farm, settings=settings)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(f"mta-sts.{NAME}").configure_cert(context)
    try:
        for part in ("nexthop", "api", "dns"):
            made.start(part)
        with TlsEnd(context, https_port, policy_port):
            yield made
    finally:
        made.close()


def fetched(ports, name):
    url = f"http://127.0.0.1:{ports[0]}/.well-known/mta-sts.txt"
    return httpx2.get(url, headers={"Host": f"mta-sts.{name}"}, trust_env=False)


def test_a_policy_is_tried_published_enforced_and_ended(stack, ports):
    customer = stack.customer("Hosted Ltd")
    stack.named.update(MX, "A", ["127.0.0.1"])
    domain = stack.domain(customer, NAME)
    stack.named.update(domain, "MX", [f"10 {MX}."])
    path = f"/v1/customers/{customer}/domains/{domain}/mta-sts"
    policy = stack.api.call("PUT", path, {"mode": "testing"})
    assert stack.api.post(f"{path}/check")["check"]["state"] == "fail"
    for record in policy["records"]:
        owner, value = record["zone_line"].split(". ")[0], record["value"]
        stack.named.update(owner, record["type"], [value if record["type"] == "TXT" else f"{value}."])
    stack.named.update("policy.scratch.test", "A", ["127.0.0.1"])
    checked = stack.api.post(f"{path}/check")["check"]
    parts = ("record", "host", "policy", "mx", "reports")
    assert {part: checked[part]["state"] for part in parts} == dict.fromkeys(parts, "ok")
    stack.named.update(domain, "MX", [f"10 {MX}.", "20 ns.scratch.test."])
    stack.move_clock(3600)  # the look is not fresh any more
    with pytest.raises(StackFault, match="mx-not-covered"):
        stack.api.change("PUT", path, {"mode": "enforce"})
    stack.named.update(domain, "MX", [f"10 {MX}."])
    stack.move_clock(7200)
    enforced = stack.api.change("PUT", path, {"mode": "enforce"})
    eventually(lambda: fetched(ports, domain).text == enforced["policy"], timeout=5)
    record = enforced["records"][0]
    stack.named.update(f"_mta-sts.{domain}", "TXT", [record["value"]])
    assert stack.api.post(f"{path}/check")["check"]["state"] == "ok"
    with pytest.raises(StackFault, match="mta-sts-in-force"):
        stack.api.change("DELETE", path)
    ended = stack.api.change("PUT", path, {"mode": "none"})
    assert ended["turning_off"]["possible"] is False
    stack.move_clock(7200 + 604_800 + 60)
    stack.api.change("DELETE", path)
    eventually(lambda: fetched(ports, domain).status_code == 404, timeout=5)


def test_the_policy_server_ends_with_the_api_in_order(stack, ports):
    stack.stop("api")
    with pytest.raises(httpx2.ConnectError):
        fetched(ports, NAME)
    log = stack.log("api").read_text()
    assert '"failed": false' in log or "failed=False" in log or '"failed":false' in log
    stack.start("api")
    assert fetched(ports, NAME).status_code == 404
