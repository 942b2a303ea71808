"""Which of the driver's errors mean that the database cannot be used at the moment."""

from typing import Final

from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    WaitQueueTimeoutError,
    WTimeoutError,
)

_RETRYABLE_CODES: Final = frozenset(
    {6, 7, 89, 91, 112, 189, 244, 246, 251, 262, 9001, 10107, 11600, 11602, 13435, 13436}
)


def is_unavailable(error: BaseException) -> bool:
    """True for the driver's errors that mean the database cannot be used at the moment."""
    if isinstance(error, ConnectionFailure | WTimeoutError | ExecutionTimeout | WaitQueueTimeoutError):
        return True
    if isinstance(error, BulkWriteError):  # it has a code of its own, whatever is wrong
        details = error.details or {}
        # A primary that steps down has written, and cannot wait for the majority any more.
        return bool(details.get("writeConcernErrors")) and not details.get("writeErrors")
    return isinstance(error, OperationFailure) and error.code in _RETRYABLE_CODES
