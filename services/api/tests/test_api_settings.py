"""Settings of the API: what is refused before the service starts, and what is never shown."""

import asyncio
import subprocess
import sys

import pytest
from pydantic import ValidationError

from postern_api.app import create_app, listener
from postern_api.settings import ApiSettings
from postern_common.settings import describe

BASE = {"mongodb_uri": "mongodb://x", "amqp_url": "amqp://x"}


def settings(**values):
    return ApiSettings(**(BASE | values))


def test_a_bootstrap_login_needs_a_password_worth_the_name():
    with pytest.raises(ValidationError, match="POSTERN_API_BOOTSTRAP_PASSWORD"):
        settings(api_bootstrap_login="root")
    with pytest.raises(ValidationError, match="POSTERN_API_BOOTSTRAP_TOKEN"):
        settings(api_bootstrap_token="short")
    assert settings().bootstrap_token() == ""


def test_secrets_come_from_files_and_are_never_shown(tmp_path):
    file = tmp_path / "password"
    file.write_text("a password from a file\n")
    chosen = settings(api_bootstrap_login="root", api_bootstrap_password_file=file)
    assert chosen.bootstrap_password() == "a password from a file"
    shown = describe(settings(api_bootstrap_token="x" * 30))
    assert "x" * 30 not in shown
    assert "POSTERN_API_PORT=8080" in shown


def test_lists_are_split_and_checked():
    assert settings(api_own_mx_hosts="MX1.example.com., mx2.example.com").api_own_mx_hosts == (
        "mx1.example.com",
        "mx2.example.com",
    )
    with pytest.raises(ValidationError, match="api_trusted_proxies"):
        settings(api_trusted_proxies="10.0.0.0/8,nonsense")


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"api_own_mx_hosts": "mx1.example.com"}, "needs POSTERN_API_POLICY_PORT"),
        ({"api_policy_port": 8081}, "needs POSTERN_API_OWN_MX_HOSTS"),
        ({"api_policy_port": 8081, "api_own_mx_hosts": "mx1.example.com,192.0.2.1"}, "is no host name"),
        ({"api_policy_host": "not a name"}, "api_policy_host"),
    ],
)
def test_policies_are_offered_only_with_all_that_they_need(values, message):
    with pytest.raises(ValidationError, match=message):
        settings(**({"api_policy_host": "policy.example.com"} | values))


async def test_a_header_section_without_end_is_refused():
    server = listener(create_app(), settings(api_host="127.0.0.1", api_port=0))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells no other way
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    async def status(field: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + field + b"\r\n\r\n")
        line = await reader.readline()
        writer.close()
        return line.split()[1]

    assert await status(b"x" * 8000) == b"200"
    assert await status(b"x" * 500_000) == b"400"
    server.should_exit = True
    await serving


def test_the_document_is_printed_without_settings_or_servers():
    command = [sys.executable, "-m", "postern_api", "openapi"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin"}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
    wrong = subprocess.run([*command[:3], "nonsense"], capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 64
    assert "usage" in wrong.stderr
