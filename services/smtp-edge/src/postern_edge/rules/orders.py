"""What an operator decided on a message that waits: it is returned to its sender, or dropped (SPEC R5)."""

from collections.abc import Mapping
from typing import Any, Final

from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.conclusion import OPEN_STATES, Tried

DROP: Final = "drop"
_WORDS: Final = {
    "bounce": Answer(Stage.ROUTE, 0, "5.7.1 returned by an administrator", permanent=True),
    DROP: Answer(Stage.ROUTE, 0, "5.7.1 dropped by an administrator", permanent=True),
}


def ordered(message: Mapping[str, Any]) -> list[Tried] | None:
    """What all recipients that are left get instead of an attempt; None where nobody decided anything."""
    order = message.get("order")
    if order is None:
        return None
    recipients = enumerate(message["recipients"])
    return [Tried(index, _WORDS[order["action"]], "") for index, one in recipients if one["state"] in OPEN_STATES]


def is_dropped(message: Mapping[str, Any]) -> bool:
    """Whether its sender is told nothing."""
    order = message.get("order")
    return order is not None and order["action"] == DROP
