"""Stored documents of directory synchronisation (SPEC S, L, E): settings, runs, plans, mirrors, requests.

`documents.py` says what holds for all stored documents. A field that only directory-sync writes stands below the line
`state`; the api writes the others.
"""

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

Provider = Literal["ldap", "entra"]
IdKind = Literal["objectGUID", "entryUUID", "graph_id", "dn"]
DirectoryState = Literal["present", "disabled", "absent", "soft_deleted", "hard_deleted"]
FlagReason = Literal["absent", "disabled", "soft_deleted", "hard_deleted", "filter", "provider_switch", "by hand"]
RunKind = Literal["sync", "preview", "approval"]
RunState = Literal[
    "requested", "running", "completed", "held", "incomplete", "failed", "cancelled", "rejected", "approved",
    "superseded",
]  # fmt: skip
RunPhase = Literal["waiting", "reading", "planning", "applying", "ended"]
ItemAction = Literal[
    "add", "restore", "update", "drop_aliases", "flag", "unflag", "add_members", "remove_members", "know", "forget"
]


class GuardDocument(TypedDict):
    """How many removals one run may make by itself (SPEC S16); `>` trips, and never fewer than `min_floor`."""

    mode: Literal["count", "percent", "both", "off"]
    max_count: int
    max_percent: float
    min_floor: int
    max_aliases: int
    max_members: int


class LdapDocument(TypedDict):
    """How an LDAP directory is reached and read (SPEC L1 to L3).

    `password` is sealed for the place `directories/<customer_id>/ldap.password`. `attributes` maps our names (`id`,
    `mail`, `proxy_addresses`, `member`, `first_name`, …) to the directory's. `port` None is the usual one of
    `security`. `connection` says who reads: directory-sync itself or an agent beside the directory.
    """

    connection: Literal["direct", "agent"]
    preset: Literal["ad", "samba", "openldap", "389ds", "freeipa"]
    host: str
    port: int | None
    second_host: str | None
    security: Literal["ldaps", "starttls", "none"]
    verify_certificate: bool
    ca_certificates: str | None
    fingerprint: str | None
    user: str
    password: str | None
    base_dn: str
    user_filter: str
    group_filter: str
    attributes: dict[str, str]
    primary_from_upn: bool
    page_size: int


class EntraDocument(TypedDict):
    """How a Microsoft Entra tenant is read (SPEC E1).

    `client_secret` and `client_certificate` (PEM with key) are sealed for the places
    `directories/<customer_id>/entra.client_secret` and `….client_certificate`.
    """

    tenant: str
    client_id: str
    client_secret: str | None
    client_certificate: str | None
    credential_expires_at: datetime | None
    cloud: Literal["public", "usgov", "usgov_dod", "china"]
    user_filter: str


class LastGoodDocument(TypedDict):
    """What the last good run stood on: flags of later runs are compared with it (SPEC S16)."""

    run_id: str
    at: datetime
    provider: Provider
    scope_hash: str
    scope_parts: NotRequired[dict[str, str]]
    users: int
    groups: int
    referrals: int
    invocation_id: str | None
    usn: int | None


class QuestionDocument(TypedDict):
    """What a run asked, and of which provider: `scope_hash` names base, filters, options and exceptions, and
    `scope_parts` each of them by itself.
    """

    provider: Provider
    scope_hash: str
    scope_parts: NotRequired[dict[str, str]]


class DoubtDocument(TypedDict):
    """What alone kept a run from being proven: another domain controller than before, or more referrals. It is believed
    when the next run finds it again, and while a plan that stands on it waits.
    """

    invocation_id: str | None
    usn: int | None
    referrals: int


class DeltaDocument(TypedDict):
    """Where reading of changes goes on: Graph's delta links as opaque text, or an agent's generation (SPEC E2, L4).

    `scope_hash` names the settings that they were got with; under others they are worth nothing.
    """

    users_link: str | None
    groups_link: str | None
    at: datetime
    full_round_at: datetime
    scope_hash: str


class DirectoryDocument(TypedDict):
    """How a customer's users are synchronised: one document a customer. Owner: api; below `state` directory-sync.

    Both providers' settings are kept, `provider` says which one is used (SPEC S1). `enabled` False keeps all users.
    `frozen` is set where the customer chose `freeze_on_disable` and switched off: nobody who is flagged goes then.
    `confirmed_at` is when a whole read that asked nothing new last unflagged all who are there: later than `last_good`
    where its plan waits. `asked_since` are the questions of runs that began to apply since `last_good`.
    `rules_changed_at` is when an exception or an addition was changed last.
    """

    _id: str
    customer_id: str
    provider: Provider
    enabled: bool
    interval_hours: int
    include_disabled: bool
    include_public_folders: bool
    include_hidden: bool
    absent_runs: int
    freeze_on_disable: bool
    frozen: bool
    guard: GuardDocument
    ldap: LdapDocument | None
    entra: EntraDocument | None
    created_at: datetime
    updated_at: datetime
    rules_changed_at: NotRequired[datetime]
    version: int
    # state
    next_run_at: datetime | None
    last_run_id: str | None
    last_good: LastGoodDocument | None
    confirmed_at: NotRequired[datetime | None]
    asked_since: NotRequired[list[QuestionDocument]]
    doubt: NotRequired[DoubtDocument | None]
    delta: DeltaDocument | None
    warned_days: list[int]


class ExceptionDocument(TypedDict):
    """Something in the directory that the synchronisation leaves out, whatever the filter says (SPEC S12). Owner: api.

    A `user` or `group` is named by its `external_id`, an `alias` by its `key`. An excepted group's members stay.
    """

    _id: str
    customer_id: str
    kind: Literal["user", "group", "alias"]
    external_id: str | None
    key: str | None
    label: str
    created_at: datetime
    created_by: str
    version: int


class AdditionDocument(TypedDict):
    """An address added by hand that takes part with the directory's source; never flagged before it was found there
    (SPEC S12). Owner: api.
    """

    _id: str
    customer_id: str
    address: str
    key: str
    first_name: str
    last_name: str
    created_at: datetime
    created_by: str
    version: int


class SkippedDocument(TypedDict):
    """Why entries were left out: how many, and the first of them."""

    count: int
    examples: list[dict[str, str]]


class SyncRunDocument(TypedDict):
    """One run of a directory synchronisation (SPEC S17). Owner: api asks for it and decides on it; directory-sync does
    the rest. `is_open` is there, and True, while the run has not ended: by its index a customer has one at a time.

    requested -> running -> completed | held | incomplete | failed | cancelled; held -> rejected (api) | approved, with
    `approved_by` | superseded by a later run, with `superseded_by`; a requested run -> cancelled (api). An approval is
    a run of its own (`kind` approval, `approves` the plan's run): the directory is read again and the plan must come
    out the same. While it is open, `attempts` counts the workers that began, and `outcome` holds how it ends once the
    stored plan is applied.
    """

    _id: str
    customer_id: str
    kind: RunKind
    state: RunState
    is_open: NotRequired[bool]
    phase: RunPhase
    requested_by: str
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    provider: Provider | None
    progress: dict[str, Any]
    counts: dict[str, int]
    skipped: dict[str, SkippedDocument]
    proof: dict[str, Any] | None
    plan_hash: str | None
    plan_part: Literal["all", "held"] | None
    held: dict[str, int] | None
    approves: str | None
    approved_hash: str | None
    cancel_requested: bool
    lease_owner: str | None
    lease_until: datetime | None
    approved_by: NotRequired[str]
    superseded_by: NotRequired[str]
    attempts: NotRequired[int]
    outcome: NotRequired[dict[str, Any]]
    version: int


class PlanItemDocument(TypedDict):
    """One change of a plan. Owner: directory-sync. `_id` is `<run>:<seq>`; items of one `group` are applied together.

    `change` holds what is set (fields of the user's document, addresses, members); `before` what stood there, for
    showing. `version` is that of the user the change was worked out from: another one makes the item stale.
    """

    _id: str
    customer_id: str
    run_id: str
    seq: int
    group: int
    action: ItemAction
    user_id: str | None
    entry_id: str | None
    label: str
    reason: str | None
    version: int | None
    change: dict[str, Any]
    before: dict[str, Any]
    destructive: bool
    state: Literal["planned", "held", "applied", "stale", "failed"]
    error: NotRequired[str]
    delete_at: datetime


class MembershipDocument(TypedDict):
    """A user or group in a group, with where that came from: a sync removes its own source's rows only (B-S6).

    Owner: directory-sync for `ldap` and `entra`, api for `manual`.
    """

    customer_id: str
    group_id: str
    member_id: str
    source: str


class KnownAddressDocument(TypedDict):
    """An address without a user that is known all the same, so that mail for it is taken under `known_only` (SPEC R4):
    it was read from the directory and left out by licence or conflict, or mail showed it and no licence was left
    (reason `licence_discovered`). Owner: directory-sync; whoever deletes a user removes what the user's addresses left.
    """

    customer_id: str
    key: str
    domain: str
    reason: str


class DiscoveryDocument(TypedDict):
    """An address that a customer's own server took mail for and that nobody has yet (SPEC U5).

    Owner: smtp-edge puts it, directory-sync turns it into a user and removes it.
    """

    _id: str
    customer_id: str
    address: str
    key: str
    seen_at: datetime


class MirrorDocument(TypedDict):
    """An object of a directory whose changes are read rather than the whole (Entra, agents). Owner: directory-sync.

    `object` is the mapped entry as JSON, or Graph's own properties; `removed` tells soft from hard removal. `round`
    is the last full round that it was seen in.
    """

    _id: str
    customer_id: str
    source: Literal["entra", "agent"]
    external_id: str
    object: dict[str, Any]
    removed: Literal["soft", "hard"] | None
    hash: str
    round: str


class DirectoryRequestDocument(TypedDict):
    """A question that the api puts to directory-sync, and its answer: a test of settings or a look at entries.

    Owner: api asks, directory-sync answers. `settings` has secrets sealed for `directory_requests/<id>`. Gone at
    `expires_at`.
    """

    _id: str
    customer_id: str
    kind: Literal["test", "browse", "filter"]
    provider: Provider
    settings: dict[str, Any]
    query: dict[str, Any]
    state: Literal["asked", "running", "answered"]
    answer: dict[str, Any] | None
    lease_owner: str | None
    lease_until: datetime | None
    created_at: datetime
    expires_at: datetime
