"""Logs as JSON lines, the trace context, and the build's metric.

Log events, not sentences: `log.info("rcpt_rejected", reply="E5112")`. Ids are bound to the context (`bind`) and appear
on every line below. Values under a name that smells of a secret are masked, whoever logs them.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TextIO

import structlog
from prometheus_client import Gauge
from structlog.typing import EventDict, WrappedLogger

_SECRET_NAME: Final = re.compile(r"password|passwd|secret|authorization|cookie|api_key|(^|_)token$", re.IGNORECASE)
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
MASK: Final = "***"

_BUILD: Final = Gauge("postern_build_info", "Always 1; the labels tell what runs.", ["service", "version"])


class _Line(structlog.WriteLogger):
    """Writes finished lines, and knows the name under which its logger was asked for."""

    def __init__(self, name: str, stream: TextIO) -> None:
        super().__init__(stream)
        self.name = name


def configure_logging(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's loggers to standard output or `stream`, one JSON object a line.

    Our own lines, which are many, do not take the way through the standard library.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    finish: list[structlog.typing.Processor] = [_add_service(service), _render]
    structlog.configure(
        processors=[*shared, *finish],
        logger_factory=lambda name="postern": _Line(name, stream or sys.stdout),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for noisy in ("pymongo", "asyncio", "mail.log"):
        logging.getLogger(noisy).setLevel("WARNING" if level != "debug" else "INFO")
    for told_by_us in ("aiormq", "aio_pika"):  # a lost broker is one line of the bus, not tracebacks of its library
        logging.getLogger(told_by_us).setLevel("CRITICAL" if level != "debug" else "INFO")
    _BUILD.labels(service=service, version=package_version()).set(1)


def package_version() -> str:
    """The version of this build."""
    try:
        return version("postern-common")
    except PackageNotFoundError:
        return "0"


def _add_service(service: str) -> structlog.typing.Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


_encode: Final = json.JSONEncoder(default=repr).encode


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode(event)


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_NAME.search(key) is not None


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the value of each key whose name smells of a secret."""
    for key in event:
        if _is_secret(key):
            event[key] = MASK
    return event


@contextmanager
def bind(**values: Any) -> Iterator[None]:
    """Put `values` (`customer_id`, `message_id`, `event_id`, `trace_id` …) on every log line within."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


@contextmanager
def traced(traceparent: str | None = None) -> Iterator[str]:
    """Continue the W3C trace of `traceparent`, or begin one; events and logs within carry it."""
    valid = traceparent is not None and _TRACEPARENT.fullmatch(traceparent)
    trace_id = traceparent.split("-")[1] if valid and traceparent else os.urandom(16).hex()
    current = f"00-{trace_id}-{os.urandom(8).hex()}-01"
    with structlog.contextvars.bound_contextvars(trace_id=trace_id, traceparent=current):
        yield current


def traceparent() -> str | None:
    """The W3C trace context of what is being done, if there is one."""
    value = structlog.contextvars.get_contextvars().get("traceparent")
    return value if isinstance(value, str) else None
