"""What a run asks of a directory, whichever it is: LDAP read directly, Entra through Graph, or what an agent sent.

A source hands entries to a `Reading` page by page and ends with a report; what the report proves is a rule's to say.
"""

from typing import Protocol

from postern_sync.rules.entries import Entry
from postern_sync.rules.report import ReadReport

__all__ = ["Cancelled", "ReadReport", "Reading", "Source", "SourceFailed"]


class Cancelled(Exception):
    """The run was called off, or its lease is lost, while the directory was read."""


class SourceFailed(Exception):
    """The directory could not be read at all: nothing of it counts. `step` is where it failed (name, connect, tls,
    bind, base_dn, filter, token, permission); `message` is public text that names no inner host or secret.
    """

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step
        self.message = message


class Reading(Protocol):
    """Where a source puts what it reads. May be called from a thread, one call at a time."""

    def put(self, entries: list[Entry]) -> None:
        """Take a page of entries; one whose id came before replaces it. Raises `Cancelled`."""

    def put_members(self, group_id: str, refs: list[str]) -> None:
        """Take some of a group's members, by what groups name them by; may be called again for more."""

    def restart_members(self, group_id: str) -> None:
        """Forget what was taken of a group's members: they are read again."""

    def progress(self, *, phase: str, read: int, total: int | None = None) -> None:
        """Tell how far it is. Raises `Cancelled`."""


class Source(Protocol):
    """A directory that can be read."""

    async def read(self, reading: Reading) -> ReadReport:
        """Read it whole, or what changed; raises `SourceFailed` before anything counted and `Cancelled`.

        A failure after the first entries is no exception but a problem in the report.
        """
