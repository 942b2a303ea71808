"""Every stored document: its collection, the service that owns it, its states and who may change them.

One service owns each transition; the others read. Documents carry `customer_id` where they belong to a tenant; the
scoped collections of `mongo.py` put it into every query. `version` counts changes and is the document's ETag.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NotRequired, TypedDict

from postern_common.directory_documents import DirectoryState, IdKind


class Collections(StrEnum):
    """Names of the collections."""

    ADMINISTRATORS = "administrators"
    SESSIONS = "sessions"
    TOKENS = "tokens"
    SIGN_IN_LIMITS = "sign_in_limits"
    IDEMPOTENCY = "idempotency"
    CUSTOMERS = "customers"
    REMOVED_CUSTOMERS = "removed_customers"
    DOMAINS = "domains"
    SITES = "sites"
    USERS = "users"
    ADDRESSES = "addresses"
    DELETED_USERS = "deleted_users"
    DIRECTORIES = "directories"
    DIRECTORY_EXCEPTIONS = "directory_exceptions"
    DIRECTORY_ADDITIONS = "directory_additions"
    DIRECTORY_REQUESTS = "directory_requests"
    DIRECTORY_MIRROR = "directory_mirror"
    SYNC_RUNS = "sync_runs"
    PLAN_ITEMS = "plan_items"
    MEMBERSHIPS = "memberships"
    KNOWN_ADDRESSES = "known_addresses"
    AGENTS = "agents"
    AGENT_ROUNDS = "agent_rounds"
    AGENT_PAGES = "agent_pages"
    AGENT_QUESTIONS = "agent_questions"
    IMPORTS = "imports"
    IMPORT_ROWS = "import_rows"
    IMPORT_CHUNKS = "import_chunks"
    DISCOVERIES = "discoveries"
    MESSAGES = "messages"
    BODIES = "bodies"
    DSN_LIMITS = "dsn_limits"
    STS_POLICIES = "sts_policies"
    TLS_RESULTS = "tls_results"
    TLS_REPORTS = "tls_reports"
    OUTBOX = "outbox"
    PROCESSED_EVENTS = "processed_events"


class DomainState(StrEnum):
    """pending -> verified | expired, expired -> verified by a look that was asked for (dns-verifier).

    expired -> pending (api, restart); any -> removed (api).
    """

    PENDING = "pending"
    VERIFIED = "verified"
    EXPIRED = "expired"


class UserState(StrEnum):
    """active <-> flagged (api, directory-sync); flagged -> ignored | deactivated (api), gone (deletion-scheduler)."""

    ACTIVE = "active"
    FLAGGED = "flagged"
    IGNORED = "ignored"
    DEACTIVATED = "deactivated"


class UserSource(StrEnum):
    """Where a user came from (SPEC U1)."""

    LDAP = "ldap"
    ENTRA = "entra"
    MANUAL = "manual"
    CSV = "csv"
    SMTP = "smtp"


class RecipientMode(StrEnum):
    """Which recipients of a verified domain are taken (SPEC R4).

    `discover` takes all, and makes users of those whom the customer's own servers take (SPEC U5).
    """

    ACCEPT_ALL = "accept_all"
    KNOWN_ONLY = "known_only"
    DISCOVER = "discover"


class MessageState(StrEnum):
    """queued <-> held; queued -> done, when no recipient is left to try (smtp-edge)."""

    QUEUED = "queued"
    HELD = "held"
    DONE = "done"


class RecipientState(StrEnum):
    """accepted -> deferred -> delivered | bounced (smtp-edge); quarantined and rejected by policy."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


class Retention(TypedDict):
    """Days that things are kept for a customer (SPEC R13)."""

    trace_days: int
    quarantine_days: int
    audit_days: int
    deleted_users_days: int


class CustomerDocument(TypedDict):
    """A tenant. Owner: api.

    `deletion_delay_days` None means never (SPEC S9); `delay_changed_at` is set with it, and unset by deletion-scheduler
    once all flagged users have their new due times. `last_good_sync_at` is set by directory-sync.
    `writes` is counted up by transactions that must exclude each other; it says nothing and is no change.
    """

    _id: str
    name: str
    partner_id: str | None
    allowed_users: int | None
    state: Literal["active", "suspended"]
    recipient_mode: RecipientMode
    plus_addressing: bool
    deletion_delay_days: int | None
    delay_changed_at: NotRequired[datetime]
    max_message_bytes: int
    retention: Retention
    sync_interval_seconds: int | None
    last_good_sync_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    writes: NotRequired[int]


class CheckedServer(TypedDict):
    """What one authoritative server said."""

    name: str
    address: str
    reason: str


class DomainCheck(TypedDict):
    """The last look at a domain's ownership record; CONTRACT lists outcomes and reasons."""

    at: datetime
    outcome: Literal["match", "mismatch", "absent", "cannot_tell"]
    reason: str
    found: list[str]
    servers: list[CheckedServer]
    explanation: str


class MailDns(TypedDict):
    """Daily state of a domain's MX or SPF record: `state` is ok, warn, fail or cannot_tell, with what was found."""

    state: str
    found: list[str]
    explanation: str
    checked_at: datetime


class MtaStsPart(TypedDict):
    """One thing that a hosted MTA-STS policy needs outside: `state` as in `MailDns`, with what was found."""

    state: str
    found: list[str]
    explanation: str


class MtaStsCheck(TypedDict):
    """The last look at a hosted policy from outside; `state` is the worst of its parts'. `policy_id` is what was
    compared with.
    """

    at: datetime
    state: str
    policy_id: str
    record: MtaStsPart
    host: MtaStsPart
    policy: MtaStsPart
    mx: MtaStsPart
    reports: MtaStsPart


class MtaStsDocument(TypedDict):
    """The MTA-STS policy hosted for a domain (RFC 8461). Owner: api; dns-verifier sets `check`.

    `mx` are all patterns, `extra_mx` those that the customer added; `report_to` are the URIs of the TLS-RPT record.
    Policies that were served before are kept by senders until `binding_until`; None where there is none. `version` is
    the policy's ETag, which the domain's own does not follow.
    """

    mode: Literal["none", "testing", "enforce"]
    max_age: int
    mx: list[str]
    extra_mx: list[str]
    report_to: list[str]
    binding_until: datetime | None
    check: MtaStsCheck | None
    created_at: datetime
    updated_at: datetime
    version: int


class DomainDocument(TypedDict):
    """A customer's domain. Owner: api creates, restarts and removes; dns-verifier checks, verifies and expires.

    `requested_at` asks for a check at once (with `next_check_at` set to the same time); the check that answers it has
    `last_check.at >= requested_at`. `mail_requested_at` asks so for a look at the mail records and at `mta_sts` (with
    `mail_dns_next_at`); the look that answers it has `mx.checked_at >= mail_requested_at`. `lease_until` and
    `lease_owner` keep two verifiers off one domain. `writes` is counted up by transactions that must exclude the
    domain's verification or removal; it is no change.
    """

    _id: str
    customer_id: str
    name: str
    unicode_name: str
    state: DomainState
    detail: str | None
    code: str
    site_id: str | None
    pending_since: datetime
    deadline: datetime
    next_check_at: datetime | None
    requested_at: datetime | None
    check_attempts: int
    lease_owner: str | None
    lease_until: datetime | None
    last_check: DomainCheck | None
    expiry_warned_at: datetime | None
    transfer_requested_at: NotRequired[datetime | None]
    verified_at: datetime | None
    mx: MailDns | None
    spf: MailDns | None
    mail_dns_next_at: datetime | None
    mail_requested_at: NotRequired[datetime]
    mta_sts: NotRequired[MtaStsDocument]
    created_at: datetime
    updated_at: datetime
    version: int
    writes: NotRequired[int]


class ServerDocument(TypedDict):
    """A mail server of a site.

    `priority`: lowest first, equal ones in turn. `tls`: opportunistic or required (SPEC R11).
    """

    id: str
    host: str
    port: int
    priority: int
    tls: Literal["opportunistic", "required"]


class SiteDocument(TypedDict):
    """Where a customer's mail goes (SPEC R1). Owner: api. Exactly one default a customer."""

    _id: str
    customer_id: str
    description: str
    is_default: bool
    servers: list[ServerDocument]
    created_at: datetime
    updated_at: datetime
    version: int


class AliasDocument(TypedDict):
    """A secondary address of a user."""

    address: str
    key: str
    source: UserSource


class WarnedDocument(TypedDict):
    """A warning before a deletion: how many days before, and before which due time; another one is warned of anew."""

    due_at: datetime
    days: int


class UserDocument(TypedDict):
    """A mailbox owner, or a list. Owner: api (by hand) and directory-sync; deletion-scheduler removes.

    `email` keeps its spelling. `external_id` names the object of the directory that the user is joined to, for users
    entered by hand too (supplemental mode, SPEC S3); `directory_state` is what the directory says of it. `absent_runs`
    counts complete runs in a row that missed the user; `due_by` tells a due time that follows the customer's delay
    from one that was given; `warned` is the last warning that was sent before it.
    """

    _id: str
    customer_id: str
    email: str
    email_key: str
    aliases: list[AliasDocument]
    kind: Literal["user", "shared", "resource", "list", "public_folder"]
    source: UserSource
    first_name: str
    last_name: str
    home_phone: str
    mobile: str
    company: str
    department: str
    notes: str
    site_id: str | None
    settings: dict[str, Any]
    state: UserState
    flagged_at: datetime | None
    due_at: datetime | None
    flag_reason: str | None
    external_id: str | None
    external_id_kind: IdKind | None
    immutable_id: str | None
    directory_state: DirectoryState | None
    absent_runs: NotRequired[int]
    due_by: NotRequired[Literal["delay", "date"]]
    warned: NotRequired[WarnedDocument]
    created_at: datetime
    updated_at: datetime
    version: int


class AddressDocument(TypedDict):
    """One address of one user. `verified` mirrors the domain's state: a key is unique over all verified domains (SPEC
    U4), and within one customer in any state. Owner: whoever owns the user; dns-verifier sets `verified`.
    """

    customer_id: str
    key: str
    domain: str
    user_id: str
    is_primary: bool
    verified: bool


class DeletedUserDocument(TypedDict):
    """What is kept of a deleted user for restoring (SPEC X2, S15).

    Owner: deletion-scheduler, api. Gone at `purge_at`.
    """

    _id: str
    customer_id: str
    email_key: str
    immutable_id: str | None
    user: UserDocument
    deleted_at: datetime
    purge_at: datetime


class OutboxDocument(TypedDict):
    """An event on its way to the broker. Owner: the service that wrote it; any relay may publish it."""

    _id: str
    customer_id: str
    name: str
    envelope: dict[str, Any]
    state: Literal["pending", "sent"]
    created_at: datetime
    claim: str | None
    claimed_until: datetime
    sent_at: datetime | None
