"""`ETag` from a document's version, and `If-Match` as the condition of a change (RFC 9110 13.1.1).

A change without it is answered 428, one made against another version 412, so that two administrators never overwrite
each other unseen.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Response

from postern_api.http.problems import Problem
from postern_common.errors import Temporary

T = TypeVar("T")
_TAG: Final = re.compile(r'(?:W/)?"[^"]*"')
TRIES: Final = 6

_OBSERVED: Final = re.compile(r'\.[0-9a-f]{8}"$')


def tag(version: int, observed: str = "") -> str:
    """The strong entity tag of a version, and of what is shown beside it."""
    return f'"{version}.{observed}"' if observed else f'"{version}"'


def set_etag(response: Response, document: Any, *observed: object) -> None:
    """Put the document's tag on the answer.

    `observed` is what is shown and moves without a change of the resource, as looks at a domain do: it makes another
    tag, but no condition fails for it.
    """
    digest = hashlib.sha256(repr(observed).encode()).hexdigest()[:8] if observed else ""
    response.headers["ETag"] = tag(document["version"], digest)


def stale() -> Problem:
    """The condition does not hold."""
    return Problem("precondition-failed", "It has changed since you read it. Read it again.", status=412)


class IfMatch:
    """The versions that the caller accepts; `*` is any."""

    def __init__(self, header: str) -> None:
        self._tags = {part.strip() for part in header.split(",")}
        if not all(part == "*" or _TAG.fullmatch(part) for part in self._tags):
            raise Problem("invalid-request", 'ETags in If-Match stand in quotes, such as "2".', status=400)

    async def settle(self, change: Callable[[], Awaitable[T]]) -> T:
        """Make a change that reads the version it names; whoever accepts any is not refused for another's change."""
        for attempt in range(TRIES):
            try:
                return await change()
            except Problem as problem:
                if problem.status != HTTPStatus.PRECONDITION_FAILED or "*" not in self._tags:
                    raise
                await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))
        raise Temporary("others change the same thing all the time")

    def check(self, version: int) -> None:
        """Raise 412 unless the caller has seen this version; a weak tag never matches (RFC 9110 8.8.3.2)."""
        if "*" not in self._tags and tag(version) not in {_OBSERVED.sub('"', one) for one in self._tags}:
            raise stale()

    def check_nothing(self) -> None:
        """Raise 412 where nothing is there and the caller has seen something; `*` takes whatever is there."""
        if "*" not in self._tags:
            raise stale()


def _required(
    if_match: Annotated[
        str | None,
        Header(
            max_length=200, description="The `ETag` of what you have read; `*` for whatever is there.", examples=['"3"']
        ),
    ] = None,
) -> IfMatch:
    if if_match is None:
        message = "Send the ETag of what you have read in If-Match."
        raise Problem("precondition-required", message, status=428)
    return IfMatch(if_match)


Condition = Annotated[IfMatch, Depends(_required)]


def _optional(
    if_match: Annotated[
        str | None,
        Header(
            max_length=200,
            description="The `ETag` of what you have read, where there is something already.",
            examples=['"3"'],
            json_schema_extra={"x-optional": True},
        ),
    ] = None,
) -> IfMatch | None:
    return None if if_match is None else IfMatch(if_match)


OptionalCondition = Annotated[IfMatch | None, Depends(_optional)]
