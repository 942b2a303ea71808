"""Indexes of every collection, and the service that owns it; each service makes what is missing when it starts."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from postern_common.documents import Collections

Direction = Literal[1, -1]


@dataclass(frozen=True, slots=True)
class Index:
    """A MongoDB index: `keys` in order; `where` makes it partial; `expire_after` makes it remove documents."""

    keys: tuple[tuple[str, Direction], ...]
    unique: bool = False
    where: dict[str, Any] | None = None
    expire_after: timedelta | None = None

    @property
    def name(self) -> str:
        """A stable name made of the keys; partial ones say so."""
        base = "_".join(f"{key.replace('.', '-')}_{direction}" for key, direction in self.keys)
        return f"{base}_partial" if self.where else base

    @property
    def options(self) -> dict[str, Any]:
        """What the database is told beside the keys."""
        options: dict[str, Any] = {"name": self.name}
        if self.unique:
            options["unique"] = True
        if self.where is not None:
            options["partialFilterExpression"] = self.where
        if self.expire_after is not None:
            options["expireAfterSeconds"] = int(self.expire_after.total_seconds())
        return options


@dataclass(frozen=True, slots=True)
class Stored:
    """A collection: the service that owns it and its indexes. `tenant` tells that documents carry `customer_id`."""

    owner: str
    tenant: bool
    indexes: tuple[Index, ...] = field(default=())


NOW: Final = timedelta(0)
OUTBOX_KEPT: Final = timedelta(days=7)
PROCESSED_KEPT: Final = timedelta(days=30)

STORED: Final[dict[Collections, Stored]] = {
    Collections.ADMINISTRATORS: Stored("api", False, (Index((("login_key", 1),), unique=True),)),
    Collections.SESSIONS: Stored(
        "api", False, (Index((("principal_id", 1),)), Index((("expires_at", 1),), expire_after=NOW))
    ),
    Collections.TOKENS: Stored(
        "api", False, (Index((("hash", 1),), unique=True), Index((("owner_id", 1), ("_id", 1))))
    ),
    Collections.SIGN_IN_LIMITS: Stored("api", False, (Index((("expires_at", 1),), expire_after=NOW),)),
    Collections.IDEMPOTENCY: Stored("api", False, (Index((("expires_at", 1),), expire_after=NOW),)),
    Collections.CUSTOMERS: Stored(
        "api",
        False,
        (
            Index((("name", 1), ("_id", 1))),
            Index((("partner_id", 1), ("_id", 1))),
            Index((("delay_changed_at", 1),), where={"delay_changed_at": {"$exists": True}}),
        ),
    ),
    Collections.REMOVED_CUSTOMERS: Stored("deletion-scheduler", False, (Index((("next_at", 1),)),)),
    Collections.DOMAINS: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("name", 1)), unique=True),
            Index((("name", 1),), unique=True, where={"state": "verified"}),
            Index((("next_check_at", 1),)),
            Index((("requested_at", 1),)),
            Index((("mail_dns_next_at", 1),)),
            Index((("mail_requested_at", 1),), where={"mail_requested_at": {"$exists": True}}),
        ),
    ),
    Collections.SITES: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("_id", 1))),
            Index((("customer_id", 1),), unique=True, where={"is_default": True}),
        ),
    ),
    Collections.USERS: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("email_key", 1)), unique=True),
            Index((("customer_id", 1), ("last_name", 1), ("_id", 1))),
            Index((("customer_id", 1), ("state", 1), ("_id", 1))),
            Index((("customer_id", 1), ("kind", 1))),
            Index((("due_at", 1),), where={"state": "flagged"}),
            Index((("customer_id", 1), ("external_id", 1)), unique=True, where={"external_id": {"$type": "string"}}),
        ),
    ),
    Collections.ADDRESSES: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("key", 1)), unique=True),
            Index((("key", 1),), unique=True, where={"verified": True}),
            Index((("domain", 1),)),
            Index((("user_id", 1),)),
        ),
    ),
    Collections.DELETED_USERS: Stored(
        "deletion-scheduler",
        True,
        (Index((("customer_id", 1), ("email_key", 1))), Index((("purge_at", 1),), expire_after=NOW)),
    ),
    Collections.DIRECTORIES: Stored(
        "api", True, (Index((("customer_id", 1),), unique=True), Index((("next_run_at", 1),)))
    ),
    Collections.DIRECTORY_EXCEPTIONS: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("kind", 1), ("external_id", 1), ("key", 1)), unique=True),
            Index((("customer_id", 1), ("_id", 1))),
        ),
    ),
    Collections.DIRECTORY_ADDITIONS: Stored(
        "api", True, (Index((("customer_id", 1), ("key", 1)), unique=True), Index((("customer_id", 1), ("_id", 1))))
    ),
    Collections.DIRECTORY_REQUESTS: Stored(
        "api", True, (Index((("state", 1), ("_id", 1))), Index((("expires_at", 1),), expire_after=NOW))
    ),
    Collections.DIRECTORY_MIRROR: Stored(
        "directory-sync", True, (Index((("customer_id", 1), ("source", 1), ("external_id", 1)), unique=True),)
    ),
    Collections.SYNC_RUNS: Stored(
        "directory-sync",
        True,
        (
            Index((("customer_id", 1), ("_id", 1))),
            Index((("customer_id", 1),), unique=True, where={"is_open": True}),
            Index((("customer_id", 1), ("state", 1)), where={"state": "held"}),
            Index((("lease_until", 1),), where={"is_open": True}),
            Index((("finished_at", 1), ("_id", 1))),
        ),
    ),
    Collections.PLAN_ITEMS: Stored(
        "directory-sync",
        True,
        (
            Index((("customer_id", 1), ("run_id", 1), ("seq", 1)), unique=True),
            Index((("delete_at", 1),), expire_after=NOW),
        ),
    ),
    Collections.MEMBERSHIPS: Stored(
        "directory-sync",
        True,
        (
            Index((("customer_id", 1), ("group_id", 1), ("member_id", 1)), unique=True),
            Index((("customer_id", 1), ("member_id", 1))),
        ),
    ),
    Collections.KNOWN_ADDRESSES: Stored(
        "directory-sync", True, (Index((("customer_id", 1), ("key", 1)), unique=True),)
    ),
    Collections.AGENTS: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("_id", 1))),
            Index((("code_hash", 1),)),
            Index((("token_hash", 1),)),
            Index((("previous_hash", 1),)),
        ),
    ),
    Collections.AGENT_ROUNDS: Stored(
        "directory-sync",
        True,
        (Index((("customer_id", 1), ("_id", 1))), Index((("delete_at", 1),), expire_after=NOW)),
    ),
    Collections.AGENT_PAGES: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("round_id", 1), ("number", 1)), unique=True),
            Index((("delete_at", 1),), expire_after=NOW),
        ),
    ),
    Collections.AGENT_QUESTIONS: Stored(
        "directory-sync",
        True,
        (Index((("customer_id", 1), ("_id", 1))), Index((("expires_at", 1),), expire_after=NOW)),
    ),
    Collections.IMPORTS: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("_id", 1))),
            Index((("lease_until", 1),), where={"is_open": True}),
            Index((("delete_at", 1),), expire_after=NOW),
        ),
    ),
    Collections.IMPORT_CHUNKS: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("import_id", 1), ("number", 1)), unique=True),
            Index((("delete_at", 1),), expire_after=NOW),
        ),
    ),
    Collections.IMPORT_ROWS: Stored(
        "api",
        True,
        (
            Index((("customer_id", 1), ("import_id", 1), ("number", 1)), unique=True),
            Index((("delete_at", 1),), expire_after=NOW),
        ),
    ),
    Collections.DISCOVERIES: Stored("smtp-edge", True, (Index((("customer_id", 1), ("key", 1)), unique=True),)),
    Collections.MESSAGES: Stored(
        "smtp-edge",
        True,
        (
            Index((("due_at", 1),), where={"state": "queued"}),
            Index((("customer_id", 1), ("due_at", 1)), where={"state": "held"}),
            Index((("dispatch_after", 1),), where={"dispatch": "pending"}),
            Index((("customer_id", 1), ("_id", 1))),
            Index((("delete_at", 1),), where={"delete_at": {"$type": "date"}}, expire_after=NOW),
        ),
    ),
    Collections.BODIES: Stored("smtp-edge", True),
    Collections.DSN_LIMITS: Stored("smtp-edge", False, (Index((("expires_at", 1),), expire_after=NOW),)),
    Collections.STS_POLICIES: Stored("smtp-edge", False, (Index((("expires_at", 1),), expire_after=NOW),)),
    Collections.TLS_RESULTS: Stored(
        "smtp-edge",
        False,
        (Index((("day", 1), ("policy_domain", 1))), Index((("expires_at", 1),), expire_after=NOW)),
    ),
    Collections.TLS_REPORTS: Stored(
        "dns-verifier",
        False,
        (
            Index((("due_at", 1),), where={"state": "waiting"}),
            Index((("expires_at", 1),), expire_after=NOW),
        ),
    ),
    Collections.OUTBOX: Stored(
        "common",
        False,
        (
            Index((("claimed_until", 1), ("_id", 1)), where={"state": "pending"}),
            Index((("sent_at", 1),), expire_after=OUTBOX_KEPT),
        ),
    ),
    Collections.PROCESSED_EVENTS: Stored("common", False, (Index((("at", 1),), expire_after=PROCESSED_KEPT),)),
}
