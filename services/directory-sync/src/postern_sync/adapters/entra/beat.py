"""How far a reading is, said again while it waits, so that a run that was called off ends soon."""

from postern_sync.source import Reading


class Beat:
    """Tells the run how far its reading is; raises `Cancelled` where the run is to end."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._phase = "users"
        self._read = 0

    def tell(self, phase: str, read: int) -> None:
        """Tell it."""
        self._phase, self._read = phase, read
        self.again()

    def again(self) -> None:
        """Tell it once more."""
        self._reading.progress(phase=self._phase, read=self._read)
