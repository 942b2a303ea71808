"""`Idempotency-Key` on POST (draft-ietf-httpapi-idempotency-key-header): a repetition gets the first answer again.

The record belongs to principal, path and key, and is kept for 24 hours; answers are sealed, since they may hold a
token that is shown once. A refused or failed request is forgotten, so that it can be mended under the same key.

The transaction of the change marks the record: whatever dies afterwards, a change under one key is made once. Should
the process die between the change and its answer, a repetition is told so; should it die before the change, the key is
free again after the lease.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from postern_api.auth.roles import Principal
from postern_api.http.problems import Problem, conflict, from_rejected, invalid
from postern_api.http.store import IdempotencyStore
from postern_api.http.uploads import close_body, hash_of_body
from postern_api.resources import Resources, beside
from postern_common.errors import Temporary
from postern_common.ids import new_id
from postern_common.mongo import Session
from postern_common.secrets import SecretsError

HEADER: Final = "Idempotency-Key"
KEPT: Final = timedelta(hours=24)
LEASE: Final = timedelta(seconds=90)
MAX_KEY: Final = 255
_KEPT_HEADERS: Final = ("content-type", "etag", "location", "retry-after")


class Replay(Exception):
    """The answer is there already."""

    def __init__(self, response: Response) -> None:
        super().__init__("replay")
        self.response = response


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that runs under a key."""

    resources: Resources
    key: str
    claim: str

    async def finish(self, response: Response) -> None:
        """Keep the answer of a request that worked; forget one that did not."""
        if response.status_code >= 300:
            await self.drop()
        else:
            await self._keep(response)

    async def refuse(self, response: Response) -> None:
        """Keep a refusal that came of a change that is made, such as an approval that turned out too late; forget any
        other.
        """
        with suppress(Temporary):
            if await IdempotencyStore(self.resources.mongo).is_made(self.key, self.claim):
                await self._keep(response)
                return
        await self.drop()

    async def _keep(self, response: Response) -> None:
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        text = json.dumps([response.status_code, headers, b64encode(bytes(response.body)).decode()])
        expires_at = self.resources.now() + KEPT
        sealed = self.resources.secrets.seal(text, self.key)
        with suppress(Temporary):  # the change is made and answered; without a record the key is free after the lease
            await IdempotencyStore(self.resources.mongo).finish(self.key, self.claim, sealed, expires_at)

    async def mark(self, session: Session) -> None:
        """Tell within the change's transaction that it is made; refuse it where the lease has passed to another."""
        if not await IdempotencyStore(self.resources.mongo).mark(self.key, self.claim, session):
            raise _in_progress()

    async def drop(self) -> None:
        """Forget a request that failed, unless its change is made."""
        with suppress(Temporary):
            await IdempotencyStore(self.resources.mongo).drop(self.key, self.claim, self.resources.now())


async def begin(request: Request, principal: Principal, resources: Resources) -> None:
    """Claim the request's key, if it has one; raise `Replay` where the answer is known."""
    given = request.headers.get(HEADER)
    if request.method != "POST" or given is None:
        return
    if not 0 < len(given) <= MAX_KEY or not given.isprintable():
        raise invalid(f"Idempotency-Key needs 1 to {MAX_KEY} printable characters.", "/Idempotency-Key")
    body_hash = await hash_of_body(request)
    place = f"{principal.id}\0{request.url.path}\0{request.url.query}\0{given}"
    key = hashlib.sha256(place.encode()).hexdigest()
    now, claim = resources.now(), new_id("evt")
    record = {
        "_id": key,
        "claim": claim,
        "body_hash": body_hash,
        "lease_until": now + LEASE,
        "is_made": False,
        "answer": None,
        "expires_at": now + KEPT,
    }
    store = IdempotencyStore(resources.mongo)
    if not await store.begin(record):
        await _repeated(store, record, resources)
    request.state.idempotency = Claim(resources, key, claim)
    beside.set(request.state.idempotency.mark)


async def _repeated(store: IdempotencyStore, record: dict[str, Any], resources: Resources) -> None:
    """Return where the request may run after all; otherwise raise what the caller gets instead."""
    now = resources.now()
    found = await store.get(record["_id"])
    if found is None:  # it was dropped between the two looks
        if await store.begin(record):
            return
        raise _in_progress()
    if found["expires_at"] > now and found["body_hash"] != record["body_hash"]:
        message = "This Idempotency-Key came with another body before."
        raise Problem("idempotency-key-reused", message, status=422, pointer="/Idempotency-Key")
    if found["expires_at"] > now and found["answer"] is not None:
        raise Replay(_answer(resources, found))
    is_abandoned = found["expires_at"] <= now or found["lease_until"] <= now
    if is_abandoned and found["expires_at"] > now and found["is_made"]:
        message = "The first request did its work, but its answer is lost. Look at what is there."
        raise conflict("idempotency-answer-lost", message)
    if is_abandoned and await store.take_over(found, record):
        return
    raise _in_progress()


def _answer(resources: Resources, found: dict[str, Any]) -> Response:
    try:
        status, headers, body = json.loads(resources.secrets.open(found["answer"], found["_id"]))
    except SecretsError:
        message = "The first request did its work, but its answer can no longer be read. Look at what is there."
        raise conflict("idempotency-answer-lost", message) from None
    return Response(b64decode(body), status_code=status, headers={**headers, "Idempotent-Replay": "true"})


def _in_progress() -> Problem:
    message = "The first request with this Idempotency-Key is still running."
    return Problem("idempotency-in-progress", message, status=409, headers={"Retry-After": "2"})


class IdempotentRoute(APIRoute):
    """A route that keeps its answer where the request carried a key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handler: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def handle(request: Request) -> Response:
            outer = beside.set(None)
            try:
                response = await handler(request)
            except Replay as replay:
                return replay.response
            except BaseException as error:
                claim: Claim | None = getattr(request.state, "idempotency", None)
                if claim is not None:
                    await (claim.refuse(from_rejected(error)) if isinstance(error, Problem) else claim.drop())
                raise
            finally:
                beside.reset(outer)
            claim = getattr(request.state, "idempotency", None)
            if claim is not None:
                await claim.finish(response)
            return response

        return handle


class UploadRoute(IdempotentRoute):
    """A route whose body goes to disk (`uploads.py`), and is gone with the request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            request.state.is_upload = True
            try:
                return await handler(request)
            finally:
                close_body(request)

        return handle
