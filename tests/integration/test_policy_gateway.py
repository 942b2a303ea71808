"""The Caddy of deploy/k8s before the policy server: certificates for our names alone, and one path passed on."""

import asyncio
import os
import shutil
import ssl
from ipaddress import ip_network
from pathlib import Path

import pytest

from postern_api.domains.mta_sts.serving import policy_app
from postern_common.mta_sts import WELL_KNOWN, policy_of
from postern_common.netguard import NetGuard
from postern_common.runtime import http_server
from postern_dns.adapters.https import Https, Request
from postern_local.ports import free_ports
from tests.servers.policies import stored_policy
from tests.servers.waiting import eventually_async

ROOT = Path(__file__).resolve().parents[2]
CADDYFILE = (ROOT / "deploy/k8s/components/mta-sts/Caddyfile").read_text(encoding="utf-8")
CADDY = shutil.which("caddy")
pytestmark = [
    pytest.mark.spec("R11"),
    pytest.mark.skipif(CADDY is None, reason="caddy is not installed"),
]


class One:
    """acme.test has a policy, and nobody else."""

    async def of(self, name):
        return stored_policy() if name == "acme.test" else None


@pytest.fixture
async def policies():
    server = http_server(policy_app(One()), "127.0.0.1", 0, drain_seconds=1)
    task = asyncio.create_task(server.serve())
    await eventually_async(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


def written(policies, http, https, folder):
    """The committed Caddyfile with this machine's ports, and certificates of Caddy's own authority."""
    changes = {
        "http_port 8080": f"http_port {http}",
        "https_port 8443": f"https_port {https}",
        "file_system /data": f"file_system {folder}/data",
        "http://api-policies": f"http://127.0.0.1:{policies}",
        "admin off": "admin off\n\tskip_install_trust",
        "\t\ton_demand\n": "\t\ton_demand\n\t\tissuer internal\n",
    }
    text = CADDYFILE
    for here, there in changes.items():
        assert here in text
        text = text.replace(here, there)
    return text


@pytest.fixture
async def gateway(policies, tmp_path):
    """Caddy; its port and the authority that it makes for itself."""
    http, https = free_ports(2)
    (tmp_path / "Caddyfile").write_text(written(policies, http, https, tmp_path))
    env = {
        **os.environ,
        "ACME_EMAIL": "hostmaster@postern.test",
        "XDG_CONFIG_HOME": str(tmp_path),
        "HOME": str(tmp_path),
    }
    command = (str(CADDY), "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile")
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=log, stderr=log)
    authority = tmp_path / "data/pki/authorities/local/root.crt"
    try:
        await eventually_async(authority.exists, timeout=20)
        yield https, authority
    finally:
        process.terminate()
        await process.wait()


async def ask(gateway, host, path=WELL_KNOWN):
    port, authority = gateway
    context = ssl.create_default_context(cafile=str(authority))
    https = Https(NetGuard([ip_network("127.0.0.0/8")]), port=port, seconds=10, context=context)
    return await https.ask(Request("GET", host, path), ["127.0.0.1"], largest=10_000)


async def test_a_name_of_ours_gets_a_certificate_and_its_policy_and_nothing_else(gateway):
    async def served():
        found = await ask(gateway, "mta-sts.acme.test")
        return found.status == 200 and found

    found = await eventually_async(served, timeout=20, pause=0.3)
    assert (found.media_type, found.body) == ("text/plain", policy_of(stored_policy()).text.encode())
    assert (await ask(gateway, "mta-sts.acme.test", "/ask?domain=mta-sts.acme.test")).status == 404
    assert (await ask(gateway, "mta-sts.acme.test", "/v1/customers")).status == 404


async def test_for_a_name_that_is_not_ours_no_certificate_is_got(gateway):
    for host in ("mta-sts.other.test", "acme.test"):
        found = await ask(gateway, host)
        assert found.status == 0
        assert found.failure is not None
