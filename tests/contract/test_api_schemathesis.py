"""The running API against its own document: generated requests never make it fail, and answers are as described.

`POSTERN_TEST_EXAMPLES` raises the number of requests for each operation.
"""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from pymongo import MongoClient
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from postern_api.app import create_app
from postern_api.auth.service import Authenticator
from postern_common.runtime import http_server
from tests.servers.api import TOKEN, api_resources, api_settings, prepared  # noqa: F401 - fixture
from tests.servers.directory import settings as directory_settings
from tests.servers.policies import OFFERED, stored_policy

EXAMPLES = int(os.environ.get("POSTERN_TEST_EXAMPLES", "4"))
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
# Answers that wait for somebody who is not there.
WAITING = ("/verify", "/mta-sts", "/mta-sts/check", "/directory/test", "/directory/entries")
schema = schemathesis.openapi.from_dict(create_app().openapi())
# Hundreds of requests that differ in one header or method; the generated ones find more for the time.
schema.config.phases.coverage.enabled = False


class Served:
    """The API on a port, in a loop of its own; `customer` has one of each thing."""

    def __init__(self, place: tuple[str, str]) -> None:
        waits = (
            "api_verify_wait_seconds",
            "api_directory_wait_seconds",
            "api_approval_wait_seconds",
            "api_agent_wait_seconds",
        )
        self._place = place
        self._resources = api_resources(api_settings(place, **dict.fromkeys(waits, 0.1), **OFFERED))
        self._server = http_server(create_app(self._resources), "127.0.0.1", 0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._ready = threading.Event()
        self.url = ""
        self.ids: dict[str, str] = {}

    async def _run(self) -> None:
        await Authenticator(self._resources).bootstrap()
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn tells no other way
            await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await serving

    def start(self) -> None:
        """Serve, and add one of each thing."""
        self._thread.start()
        assert self._ready.wait(20)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False) as client:
            customer = client.post("/v1/customers", json={"name": "Acme"}).headers["Location"]
            client.post(f"{customer}/domains", json={"name": "acme.com"}).raise_for_status()
            self._verify("acme.com")
            site = client.post(f"{customer}/sites", json={"servers": [{"host": "127.0.0.1", "port": 1}]}).json()
            body = {"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee"}
            user = client.post(f"{customer}/users", json=body).json()
            directory = f"{customer}/directory"
            client.put(directory, json=directory_settings()).raise_for_status()
            run = client.post(f"{directory}/sync").json()
            imported = client.post(f"{customer}/imports", json={"text": "bob@acme.com"}).json()
            exception = client.post(f"{directory}/exceptions", json={"kind": "user", "external_id": "x"}).json()
            addition = client.post(f"{directory}/additions", json={"address": "desk@acme.com"}).json()
            agent = client.post(f"{directory}/agents", json={"name": "server room"}).json()
            group = client.post(f"{customer}/groups", json={"email": "staff@acme.com", "name": "Staff"}).json()
        self.ids = {"c": customer.rsplit("/", 1)[-1], "name": "acme.com"}
        self.ids |= {"sites": site["id"], "users": user["id"], "runs": run["id"], "imports": imported["id"]}
        self.ids |= {
            "exceptions": exception["id"],
            "additions": addition["id"],
            "groups": group["id"],
            "agents": agent["id"],
        }

    def _verify(self, name: str) -> None:
        uri, database = self._place
        client: MongoClient[dict[str, Any]] = MongoClient(uri)
        found = {"state": "verified", "mta_sts": stored_policy()}
        client[database]["domains"].update_one({"name": name}, {"$set": found})
        client.close()

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def served(prepared: tuple[str, str]) -> Iterator[Served]:
    running = Served(prepared)
    running.start()
    yield running
    running.stop()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_generated_requests_are_answered_as_described(case, served):
    parts = case.path.split("/")
    for name in case.path_parameters:
        kind = parts[parts.index(f"{{{name}}}") - 1]
        known = served.ids.get(name) or served.ids.get(kind)
        # The customer's own path is kept alive: a DELETE that works would end the test of everything else.
        if known and not (case.method == "DELETE" and case.path.endswith(f"{{{name}}}")):
            case.path_parameters[name] = known
    if case.headers and "If-Match" in case.headers:
        case.headers["If-Match"] = "*"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = case.call(base_url=served.url, headers=headers)
    if response.status_code == 503 and case.path.endswith(WAITING):
        return  # nobody is there to look
    case.validate_response(response, checks=CHECKS)
