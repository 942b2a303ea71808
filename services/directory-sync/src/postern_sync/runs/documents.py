"""What is written of a run when it begins and when it ends."""

from datetime import datetime
from typing import Any, Final

from postern_common.ids import new_id

Document = dict[str, Any]
SERVICE: Final = "directory-sync"
NO_DIRECTORY: Final = "no directory configured"
PLAN_STALE: Final = "plan-stale"
CANCELLED: Final = "cancelled"
GIVEN_UP: Final = "the run failed again and again for a reason on our side"
SUSPENDED: Final = "the customer is suspended"
OTHER_RUN: Final = "another run is under way"
SCHEDULE: Final = "schedule"


def new_run(customer_id: str, requested_by: str, now: datetime, run_id: str | None = None) -> Document:
    """A run that waits for a worker."""
    return {
        "_id": run_id or new_id("run"),
        "customer_id": customer_id,
        "kind": "sync",
        "state": "requested",
        "is_open": True,
        "phase": "waiting",
        "requested_by": requested_by,
        "reason": None,
        "created_at": now,
        "started_at": None,
        "finished_at": None,
        "provider": None,
        "progress": {},
        "counts": {},
        "skipped": {},
        "proof": None,
        "plan_hash": None,
        "plan_part": None,
        "held": None,
        "approves": None,
        "approved_hash": None,
        "cancel_requested": False,
        "lease_owner": None,
        "lease_until": None,
        "version": 1,
    }


def ended(state: str, now: datetime, reason: str | None = None, **fields: Any) -> Document:
    """What is set of a run that ends; the unset part is `LEFT`."""
    return {
        "state": state,
        "phase": "ended",
        "reason": reason,
        "finished_at": now,
        "lease_owner": None,
        "lease_until": None,
        **fields,
    }


LEFT: Final = {"is_open": "", "attempts": "", "outcome": ""}
