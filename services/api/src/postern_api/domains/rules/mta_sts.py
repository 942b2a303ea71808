"""What may be done with a hosted MTA-STS policy: whom it covers, who still holds an earlier one, when it may go.

All pure. A policy that senders hold cannot be taken back: it ends by its age, or by a younger one of mode `none`
(RFC 8461 8.3). So what was ever served is remembered by the time until which it may bind somebody.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.mta_sts import DEFAULT_MAX_AGE, NONE_MAX_AGE, Mode, Policy, mail_hosts

# Senders hurry to a new policy only when they see its id, so a look at the MX records from just before is fresh enough.
FRESH: Final = timedelta(minutes=10)


def policy_for(mode: Mode, max_age: int | None, own_hosts: Sequence[str], extra: Sequence[str]) -> Policy:
    """The policy for these wishes: our own MX hosts, then the further patterns, each once."""
    age = max_age if max_age is not None else NONE_MAX_AGE if mode == "none" else DEFAULT_MAX_AGE
    return Policy(mode, tuple(dict.fromkeys((*own_hosts, *extra))), age)


def binding_until(present: Mapping[str, Any] | None, now: datetime) -> datetime | None:
    """Until when somebody may hold a policy that was served until `now`; None is nobody.

    One of mode `none` binds nobody, but others before it may have had a longer age.
    """
    if present is None:
        return None
    earlier: datetime | None = present["binding_until"]
    if present["mode"] == "none":
        return earlier
    until = now + timedelta(seconds=present["max_age"])
    return until if earlier is None else max(earlier, until)


def is_removable(policy: Mapping[str, Any], now: datetime) -> bool:
    """Whether the policy binds nobody any more, so that it and its records may go."""
    until = binding_until(policy, now)
    return until is None or until <= now


def is_fresh(mx: Mapping[str, Any] | None, now: datetime) -> bool:
    """Whether the last look at the MX records is young enough to decide by."""
    return mx is not None and now - mx["checked_at"] <= FRESH


def live_hosts(domain: str, mx: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Where the domain's mail goes by the MX records as they were found last; None where that is not known."""
    if mx is None or (mx["state"] == "cannot_tell" and not mx["found"]):
        return None
    return mail_hosts(domain, mx["found"])
