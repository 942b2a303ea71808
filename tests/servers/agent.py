"""An agent beside a scripted directory or slapd, its server in this process, and what leaves between the two."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from postern_sync.agent.adapters.server import Server
from postern_sync.agent.config import AgentConfig
from postern_sync.agent.rounds import Rounds
from postern_sync.agent.state import State
from tests.servers.api import Api
from tests.servers.sync_source import ScriptedSource

HOST = {"host": "ldap.example.test", "base_dn": "dc=demo,dc=test"}


def agent_config(folder: Path, **fields: Any) -> AgentConfig:
    """Settings of an agent whose server is in this process."""
    return AgentConfig.model_validate({"url": "https://api.test", "state_dir": folder, "ldap": HOST} | fields)


class Wire(httpx2.AsyncBaseTransport):
    """Passes requests on, remembers them, and breaks where a test says: `cut(request)` before or after it got there."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx2.ASGITransport(app=app, client=("192.0.2.9", 4711))
        self.sent: list[tuple[str, str, bytes]] = []
        self.cut: Callable[[str, str], str | None] = lambda _method, _path: None
        self.change: Callable[[str, Any], Any] = lambda _path, body: body

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request."""
        content = await request.aread()
        method, path = request.method, request.url.path
        where = self.cut(method, path)
        if where == "before":
            raise httpx2.ConnectError("cut")
        self.sent.append((method, path, content))
        if method == "POST" and content:
            changed = json.dumps(self.change(path, json.loads(content))).encode()
            headers = [(name, value) for name, value in request.headers.items() if name.lower() != "content-length"]
            request = httpx2.Request(method, request.url, headers=headers, content=changed)
        response = await self._inner.handle_async_request(request)
        if where == "after":
            raise httpx2.ReadError("cut")
        return response

    @property
    def pages(self) -> list[dict[str, Any]]:
        """The pages that left, unpacked."""
        return [json.loads(gzip.decompress(body)) for method, _path, body in self.sent if method == "PUT"]

    @property
    def octets(self) -> int:
        """How many octets of bodies left."""
        return sum(len(body) for _method, _path, body in self.sent)

    def forget(self) -> None:
        """Begin to count anew."""
        self.sent.clear()


class Scripted(ScriptedSource):
    """A scripted directory as the agent reads it."""

    place = ""

    async def read(self, settings: Any, reading: Any = None) -> Any:  # type: ignore[override]
        """Read it, as a source or as an agent's directory."""
        if reading is None:
            return await super().read(settings)
        report = await super().read(reading)
        names = ("base_readable", "referrals", "attribute_errors", "invocation_id", "usn")
        told = {name: getattr(report, name) for name in names} | {"problems": list(report.problems)}
        return {"place": self.place, "report": told}


async def enrolled(api: Api, customer: str, name: str = "here") -> tuple[dict[str, Any], str]:
    """An agent of the customer, and its token."""
    made = (await api.post(f"{customer}/directory/agents", {"name": name}, expect=201)).json()
    body = {"code": made["code"], "version": "0.1.0"}
    return made, (await api.post("/v1/agent/enrol", body, token=None, expect=200)).json()["token"]


class Beside:
    """An agent that reads a scripted directory."""

    def __init__(self, server: Server, wire: Wire, state: State, directory: Any) -> None:
        self.server = server
        self.wire = wire
        self.state = state
        self.directory = directory
        self.rounds = Rounds(server, state, directory, pause=0.01)

    async def once(self) -> bool:
        """Do what is asked for now."""
        work = await self.server.work([], wait=0)
        found = work["round"]
        return found is not None and await self.rounds.carry_out(found["run_id"], found["settings"])

    async def asked(self) -> Any:
        """The question that waits."""
        return (await self.server.work([], wait=0))["question"]


@asynccontextmanager
async def beside(api: Api, customer: str, folder: Path, directory: Any, token: str = "") -> AsyncIterator[Beside]:
    """An agent, enrolled unless a token is given."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    if not token:
        _, token = await enrolled(api, customer)
    wire, state = Wire(api.app), State(folder)
    try:
        async with Server(agent_config(folder), token, wire) as server:
            yield Beside(server, wire, state, directory)
    finally:
        state.close()
