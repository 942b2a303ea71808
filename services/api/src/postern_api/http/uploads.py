"""Bodies that are too large for memory: they go to a temporary file, and from there to whoever wants them.

A route of the class `UploadRoute` (`idempotency.py`) declares no body; it asks for `spooled(request)`. How large the
body may be, and how long it may take, is the business of the outermost layer (`middleware.py`).
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from fastapi import Request
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from postern_api.http.problems import Problem, invalid

PIECE: Final = 256 * 1024
MAX_FIELDS: Final = 5


@dataclass(frozen=True, slots=True)
class Spooled:
    """A body on disk, gone with its request."""

    file: BinaryIO
    octets: int
    sha256: str

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body from its beginning."""
        await asyncio.to_thread(self.file.seek, 0)
        while piece := await asyncio.to_thread(self.file.read, PIECE):
            yield piece


async def spooled(request: Request) -> Spooled:
    """The body of a request to an `UploadRoute`, read once."""
    found: Spooled | None = getattr(request.state, "spooled", None)
    if found is None:
        found = request.state.spooled = await _spool(request)
    return found


async def _spool(request: Request) -> Spooled:
    file = cast("BinaryIO", await asyncio.to_thread(tempfile.TemporaryFile))
    digest, octets = hashlib.sha256(), 0
    try:
        async for piece in request.stream():
            digest.update(piece)
            octets += len(piece)
            await asyncio.to_thread(file.write, piece)
    except ClientDisconnect:
        file.close()
        raise Problem("request-timeout", "The body broke off.", status=408) from None
    except BaseException:
        file.close()
        raise
    return Spooled(file, octets, digest.hexdigest())


async def hash_of_body(request: Request) -> str:
    """What tells two bodies apart, whether the route keeps them in memory or on disk."""
    if getattr(request.state, "is_upload", False):
        return (await spooled(request)).sha256
    return hashlib.sha256(await request.body()).hexdigest()


async def form_of(request: Request) -> FormData:
    """A multipart body (RFC 7578) with one file; files stay on disk."""
    body = await spooled(request)
    parser = MultiPartParser(request.headers, body.pieces(), max_files=1, max_fields=MAX_FIELDS)
    try:
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError):
        raise invalid("This is no multipart form with one file.", "/file") from None


def close_body(request: Request) -> None:
    """Forget the body at the end of its request."""
    body: Spooled | None = getattr(request.state, "spooled", None)
    if body is not None:
        body.file.close()
