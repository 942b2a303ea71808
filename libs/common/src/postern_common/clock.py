"""The one source of time. Rules never read it: they take `now` as an argument.

Tests move it: `POSTERN_TEST_CLOCK` names a file that holds a number of seconds to add to the real time; the file is
read again whenever it changes, so that 72 hours or 5 days pass in a moment in every process at once. Production
refuses it (see `settings.py`). Due times are compared with the database's own time plus this offset
(`mongo.Mongo.now`).
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

ZERO = timedelta()


class Clock:
    """Real time in UTC, shifted by the number of seconds in `offset_file` where one is given."""

    def __init__(self, offset_file: Path | None = None) -> None:
        self._file = offset_file
        self._stamp: tuple[int, int] | None = None
        self._offset = ZERO

    def now(self) -> datetime:
        """The present, timezone-aware, in UTC."""
        return datetime.now(UTC) + self.offset

    @property
    def offset(self) -> timedelta:
        """How far this clock stands from the machine's; zero outside of tests."""
        if self._file is None:
            return ZERO
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return ZERO
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            text = self._file.read_text(encoding="ascii").strip()
            self._offset = timedelta(seconds=float(text or 0))
            self._stamp = stamp
        return self._offset
