"""When an Entra tenant is read whole rather than its changes, and what names the objects of its mirror (SPEC E2)."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Final

from postern_common.directory_documents import DeltaDocument, EntraDocument
from postern_sync.rules.graph_mapping import GROUP_SELECT, USER_SELECT

FULL_ROUND: Final = timedelta(days=7)  # delta links live for as long, and may leave removals out (BEHAVIOURS 3.7)
# A filtered list lags behind the directory by minutes: who is missing from it must be so for longer.
LAG: Final = timedelta(hours=1)
USER: Final = "user:"
GROUP: Final = "group:"
MEMBER: Final = "member:"


def scope_of(entra: EntraDocument) -> str:
    """Names what was asked: links that were got with another question are worth nothing."""
    asked = [entra["tenant"], entra["client_id"], entra["cloud"], entra["user_filter"], USER_SELECT, GROUP_SELECT]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def goes_on(delta: DeltaDocument | None, scope: str, now: datetime, interval: timedelta) -> bool:
    """Whether reading may go on at the stored links; else the whole is read.

    A full round is made early rather than late: now, where the next run would come more than a week after the last.
    """
    if delta is None or delta["scope_hash"] != scope:
        return False
    return now + interval <= delta["full_round_at"] + FULL_ROUND and now - delta["at"] < FULL_ROUND


def has_left_filter(missed_since: str | None, now: datetime) -> bool:
    """Whether a user who is missing from the filtered list, and still there, was missing for long enough."""
    if missed_since is None:
        return False
    try:
        return now - datetime.fromisoformat(missed_since) >= LAG
    except (ValueError, TypeError):
        return False
