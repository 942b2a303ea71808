"""The two kinds of expected failure; anything else that is raised is a bug and is treated as temporary at the edges.

`Rejected` is the caller's fault and carries text that may be shown in public; `Temporary` is the world's fault and
carries a private reason that goes to the log only.
"""

from datetime import timedelta


class Rejected(Exception):
    """Input that will never be accepted as it is.

    `code` is a stable slug (the `code` of an HTTP problem), `message` is public text, `pointer` is the JSON pointer of
    the field at fault, `status` the HTTP status that the API answers with.
    """

    def __init__(self, code: str, message: str, *, pointer: str | None = None, status: int = 422) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pointer = pointer
        self.status = status


class Temporary(Exception):
    """A failure that may pass: the work is to be tried again, after `retry_after` where it is known."""

    def __init__(self, reason: str, retry_after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
