"""RabbitMQ's topology as data: the exchange, and for each consuming service its queue, delayed retries and dead
letters.

All of it follows from the catalogue's `consumers`. Every service declares all of it when it connects, so that an event
has its queue whichever service starts first. Queues are quorum queues; what is dead-lettered or retried moves at least
once (needs `reject-publish` overflow), never at most once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from postern_common.events import CATALOGUE

EXCHANGE: Final = "postern.events"
DELIVERY_LIMIT: Final = 20
RETRY_SECONDS: Final = (1, 5, 30, 120, 600)
REASON_HEADER: Final = "x-postern-reason"
ATTEMPT_HEADER: Final = "x-postern-attempt"


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue to declare: its arguments, and the routing keys that bind it to the exchange."""

    name: str
    arguments: Mapping[str, Any]
    bindings: tuple[str, ...] = ()


def consumed_by(service: str) -> tuple[str, ...]:
    """Names of the events that `service` consumes, by the catalogue."""
    return tuple(sorted(name for name, kind in CATALOGUE.items() if service in kind.consumers))


def main_queue(service: str) -> str:
    """The queue that `service` consumes from."""
    return f"postern.{service}"


def dead_queue(service: str) -> str:
    """Where messages end that `service` cannot process, each with its reason."""
    return f"postern.{service}.dead"


def retry_queue(service: str, attempt: int) -> str:
    """Where a message waits before attempt number `attempt + 1`; the longest wait repeats."""
    seconds = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1]
    return f"postern.{service}.retry.{seconds}s"


def queues(service: str) -> list[Queue]:
    """All queues of one consuming service."""
    main = main_queue(service)
    return [
        Queue(dead_queue(service), {"x-queue-type": "quorum"}),
        Queue(
            main,
            {
                "x-queue-type": "quorum",
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-overflow": "reject-publish",
                "x-dead-letter-strategy": "at-least-once",
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead_queue(service),
            },
            consumed_by(service),
        ),
        *(
            Queue(
                f"{main}.retry.{seconds}s",
                {
                    "x-queue-type": "quorum",
                    "x-message-ttl": seconds * 1000,
                    "x-overflow": "reject-publish",
                    "x-dead-letter-strategy": "at-least-once",
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": main,
                },
            )
            for seconds in RETRY_SECONDS
        ),
    ]


def all_queues() -> list[Queue]:
    """The queues of every service that consumes anything."""
    services = sorted({service for kind in CATALOGUE.values() for service in kind.consumers})
    return [queue for service in services for queue in queues(service)]
