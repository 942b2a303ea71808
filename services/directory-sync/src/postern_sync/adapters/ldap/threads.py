"""Blocking work on a connection, done beside the event loop."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from postern_sync.adapters.ldap.faults import ABORTED, LdapFault
from postern_sync.adapters.ldap.session import Session

T = TypeVar("T")


class Wire:
    """The connection that a thread waits on, so that it can be hung up from outside."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._is_cut = False

    def holds(self, session: Session) -> None:
        """Take note of a connection that is about to be made."""
        self._session = session
        if self._is_cut:
            raise LdapFault(ABORTED)

    def cut(self) -> None:
        """Hang up, now and for every further connection."""
        self._is_cut = True
        if self._session is not None:
            self._session.abort()


async def in_thread(work: Callable[[], T], wire: Wire) -> T:
    """Do it in a thread of its own, since a directory may take hours: the loop's own threads are for short work.

    Being cancelled cuts the wire, and waits until the thread has let go of what it was given.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ldap")
    context = contextvars.copy_context()
    running = asyncio.get_running_loop().run_in_executor(thread, lambda: context.run(work))
    thread.shutdown(wait=False)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        wire.cut()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # whatever came of it, nobody waits for it any more
        raise
