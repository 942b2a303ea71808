"""The API in this process on a real database, for tests: `api` is a client with a platform administrator's token."""

import asyncio
import contextlib
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import structlog
from argon2 import PasswordHasher
from pydantic import SecretStr
from pymongo import MongoClient

from postern_api.adapters.resolver import HostResolver
from postern_api.adapters.smtp_probe import SmtpProber
from postern_api.app import create_app
from postern_api.auth.passwords import Passwords
from postern_api.auth.service import Authenticator
from postern_api.resources import Resources
from postern_api.settings import ApiSettings
from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.indexes import STORED
from postern_common.mongo import PLATFORM, Mongo
from postern_common.netguard import NetGuard
from postern_common.secrets import SecretBox
from tests.servers.farm import Farm

# The default renderer of a terminal spends seconds on one traceback with all its locals.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])

LOGIN, PASSWORD, TOKEN = "root@example.com", "a long enough password", "the-platform-token-of-these-tests"
KEYS = "1:" + b64encode(bytes(range(32))).decode()


class MovedClock(Clock):
    """Real time, shifted by what a test says."""

    shift = timedelta()

    @property
    def offset(self) -> timedelta:
        return self.shift


def api_settings(place: tuple[str, str], **values: Any) -> ApiSettings:
    """Settings of an API on that database; nothing is read from the environment."""
    base: dict[str, Any] = {
        "environment": "test",
        "mongodb_uri": SecretStr(place[0]),
        "mongodb_database": place[1],
        "amqp_url": SecretStr("amqp://nowhere"),
        "secret_keys": SecretStr(KEYS),
        "allow_networks": "127.0.0.0/8",
        "api_bootstrap_login": LOGIN,
        "api_bootstrap_password": SecretStr(PASSWORD),
        "api_bootstrap_token": SecretStr(TOKEN),
        "api_sign_in_window_seconds": 86400,
    }
    return ApiSettings(**(base | values))


def api_resources(settings: ApiSettings) -> Resources:
    """What the application is made of, with passwords that cost little."""
    return Resources(
        settings=settings,
        mongo=Mongo.connect(settings, MovedClock()),
        secrets=SecretBox.from_text(settings.secret_key_text()),
        passwords=Passwords(PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)),
        prober=SmtpProber(HostResolver(settings.dns_servers), NetGuard(settings.allow_networks), "postern.test"),
        kick=lambda: None,
    )


class Api:
    """A client of the API, and the database behind it."""

    def __init__(self, resources: Resources, origin: str = "192.0.2.77") -> None:
        self.resources = resources
        self.mongo = resources.mongo
        assert isinstance(resources.mongo.clock, MovedClock)
        self.clock = resources.mongo.clock
        self.app = create_app(resources)
        transport = httpx2.ASGITransport(app=self.app, client=(origin, 4711))
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://api.test")

    async def call(self, method, path, body=None, *, token=TOKEN, headers=None, content=None, expect=None):
        """One request; `expect` is the status that it must have."""
        given = {"Authorization": f"Bearer {token}"} if token else {}
        options = {"json": body} if body is not None else {}
        if content is not None:
            options = {"content": content}
        response = await self.client.request(method, path, headers=given | (headers or {}), **options)
        if expect is not None:
            assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        if response.status_code >= 400:
            check_problem(response)
        return response

    async def get(self, path, **options):
        return await self.call("GET", path, **options)

    async def post(self, path, body=None, **options):
        return await self.call("POST", path, body, **options)

    async def patch(self, path, body, *, tag="*", **options):
        return await self.call("PATCH", path, body, headers={"If-Match": tag}, **options)

    async def put(self, path, body, *, tag="*", **options):
        return await self.call("PUT", path, body, headers={"If-Match": tag}, **options)

    async def delete(self, path, *, tag="*", **options):
        return await self.call("DELETE", path, headers={"If-Match": tag}, **options)

    async def customer(self, name="Example Ltd", **fields) -> str:
        """Add a customer; the path of its resources."""
        created = await self.post("/v1/customers", {"name": name, **fields}, expect=201)
        return created.headers["Location"]

    async def token_for(self, customer, role="customer_admin", **fields) -> str:
        """A token of the customer's own."""
        made = await self.post(f"{customer}/tokens", {"name": role, "role": role, **fields}, expect=201)
        return made.json()["token"]

    async def verified(self, customer, name) -> dict:
        """A domain of the customer as if the verifier had proven it."""
        await self.post(f"{customer}/domains", {"name": name}, expect=201)
        domains = self.mongo.collection(Collections.DOMAINS, PLATFORM)
        change = {"state": "verified", "verified_at": self.mongo.clock.now(), "next_check_at": None}
        customer_id = customer.rsplit("/", 1)[-1]
        await domains.update_one({"name": name, "customer_id": customer_id}, {"$set": change})
        addresses = self.mongo.collection(Collections.ADDRESSES, PLATFORM)
        await addresses.update_many({"domain": name, "customer_id": customer_id}, {"$set": {"verified": True}})
        return (await self.get(f"{customer}/domains/{name}", expect=200)).json()

    async def events(self, name=None) -> list[dict]:
        """The events that were written, oldest first."""
        query = {} if name is None else {"name": name}
        found = await self.mongo.collection(Collections.OUTBOX, PLATFORM).find(query, limit=1000, sort=[("_id", 1)])
        return [document["envelope"] for document in found]

    async def all(self, name: str) -> list[dict]:
        """Every document of a collection."""
        return await self.mongo.collection(Collections(name), PLATFORM).find({}, limit=1000)

    @contextmanager
    def later(self, **shift) -> Iterator[None]:
        """Let time have passed."""
        self.clock.shift = timedelta(**shift)
        try:
            yield
        finally:
            self.clock.shift = timedelta()


def check_problem(response) -> None:
    """Every error is a problem with all members that the contract names, and tells nothing of the inside."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"].endswith(f":{body['code']}")
    assert body["title"]
    assert body["detail"]
    for item in body.get("errors", ()):
        assert set(item) <= {"pointer", "message", "in"}
    for word in ("Traceback", "pymongo", "motor", "E11000", "mongodb", "127.0.0.1:"):
        assert word not in response.text


@asynccontextmanager
async def running_api(place: tuple[str, str], **values: Any) -> AsyncIterator[Api]:
    """An API on that database, with its first administrator."""
    resources = api_resources(api_settings(place, **values))
    await Authenticator(resources).bootstrap()
    served = Api(resources)
    try:
        yield served
    finally:
        await served.client.aclose()
        resources.passwords.close()
        resources.mongo.close()


@pytest.fixture(scope="module")
def prepared(farm: Farm, mongod: str) -> Iterator[tuple[str, str]]:
    """A database with indexes, for all tests of a module: making them costs more than most tests."""
    place = mongod, f"test_{secrets.token_hex(6)}"

    async def make_indexes() -> None:
        mongo = Mongo.connect(api_settings(place), Clock())
        await mongo.ensure_indexes()
        mongo.close()

    asyncio.run(make_indexes())
    yield place
    farm.drop_database(place[1])


@pytest.fixture
def place(prepared: tuple[str, str]) -> tuple[str, str]:
    """The URI and the name of an empty database with indexes."""
    uri, database = prepared
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    for name in STORED:
        client[database][name.value].delete_many({})
    client.close()
    return prepared


@pytest.fixture
async def api(place: tuple[str, str]) -> AsyncIterator[Api]:
    """An API on an empty database."""
    async with running_api(place) as served:
        yield served


@asynccontextmanager
async def verifier(api: Api, outcome: Callable[[dict], dict]) -> AsyncIterator[None]:
    """What the dns-verifier does with requests, told by `outcome(domain)`: the fields of the result."""
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)

    async def look() -> None:
        while True:
            now = await api.mongo.now()
            for domain in await domains.find({"next_check_at": {"$lte": now}}, limit=10):
                check = {
                    "at": now,
                    "outcome": "absent",
                    "reason": "no_txt",
                    "found": [],
                    "servers": [{"name": "ns1.example.com", "address": "192.0.2.53", "reason": "no_txt"}],
                    "explanation": "There is no TXT record yet.",
                }
                found = {"last_check": check, "next_check_at": now + timedelta(minutes=5)} | outcome(domain)
                asked = {"_id": domain["_id"], "requested_at": domain["requested_at"]}  # else it is looked at again
                await domains.update_one(asked, {"$set": found})
            await asyncio.sleep(0.05)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def customer(api: Api) -> str:
    """The path of a customer with the verified domain acme.com."""
    path = await api.customer()
    await api.verified(path, "acme.com")
    return path
