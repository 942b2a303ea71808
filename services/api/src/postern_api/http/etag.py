"""`ETag` from a document's version, and `If-Match` as the condition of a change (RFC 9110 13.1.1).

A change without it is answered 428, one made against another version 412, so that two administrators never overwrite
each other unseen.
"""

from typing import Annotated, Any

from fastapi import Depends, Header, Response

from postern_api.http.problems import Problem


def tag(version: int) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


def set_etag(response: Response, document: Any) -> None:
    """Put the document's tag on the answer."""
    response.headers["ETag"] = tag(document["version"])


def stale() -> Problem:
    """The condition does not hold."""
    return Problem("precondition-failed", "It has changed since you read it. Read it again.", status=412)


class IfMatch:
    """The versions that the caller accepts; `*` is any."""

    def __init__(self, header: str) -> None:
        self._tags = {part.strip() for part in header.split(",")}

    def check(self, version: int) -> None:
        """Raise 412 unless the caller has seen this version."""
        if "*" not in self._tags and tag(version) not in self._tags:
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
