"""What the edge knows by heart: domains, customers, sites and addresses, and the answers that follow from them (DESIGN
9).

The index is plain memory, made small: an address costs a short string and sixteen octets of user id.
`directory_cache.py` fills it and keeps it current; it promises to call `alive` as long as it hears from the database.
While it does not, known recipients are still taken, and unknown ones are put off instead of refused (SPEC R4, D7).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.documents import DomainState, RecipientMode
from postern_edge.rules.paths import Mailbox
from postern_edge.rules.recipients import DomainFacts, RecipientAnswer, Verdict, decide
from postern_edge.rules.route import Server, Site, choose_site

UserId = bytes | str
TRACE_KEPT: Final = timedelta(days=30)  # SPEC R13, where the customer's own is not known
_STRENGTH: Final = {DomainState.VERIFIED: 2, DomainState.PENDING: 1, DomainState.EXPIRED: 0}
_REFUSALS: Final = frozenset({Verdict.UNKNOWN_DOMAIN, Verdict.UNKNOWN_USER})


@dataclass(frozen=True, slots=True)
class Domain:
    """One customer's claim on a domain."""

    name: str
    customer_id: str
    state: DomainState
    site_id: str | None


@dataclass(frozen=True, slots=True)
class Customer:
    """What the edge needs of a customer."""

    mode: RecipientMode
    plus_addressing: bool
    max_message_bytes: int | None
    sync_interval_seconds: int | None
    last_good_sync_at: datetime | None
    trace_kept: timedelta = TRACE_KEPT
    is_suspended: bool = False

    def users_current(self, now: datetime) -> bool:
        """False once the last good sync is older than twice its interval (SPEC R4)."""
        if not self.sync_interval_seconds:
            return True
        if self.last_good_sync_at is None:
            return False
        return now - self.last_good_sync_at <= timedelta(seconds=2 * self.sync_interval_seconds)


@dataclass(slots=True)
class DirectoryIndex:
    """The facts, by what they are asked for. `None` for a document means that it is gone."""

    customers: dict[str, Customer] = field(default_factory=dict)
    _claims: dict[str, Domain] = field(default_factory=dict)  # by the domain document's id
    _domains: dict[str, list[str]] = field(default_factory=dict)  # name -> ids of claims
    _sites: dict[str, Site] = field(default_factory=dict)
    _sites_of: dict[str, list[str]] = field(default_factory=dict)  # customer -> ids of sites
    _users: dict[str, dict[str, UserId]] = field(default_factory=dict)  # domain -> local key -> user
    _user_sites: dict[str, str] = field(default_factory=dict)  # only users with a site of their own
    _known: dict[str, set[str]] = field(default_factory=dict)  # customer -> keys of addresses without a user
    _known_keys: dict[Any, tuple[str, str]] = field(default_factory=dict)  # by the document's id

    def put_customer(self, customer_id: str, document: Mapping[str, Any] | None) -> None:
        """Take a customer's document."""
        if document is None:
            self.customers.pop(customer_id, None)
            return
        days = (document.get("retention") or {}).get("trace_days")
        self.customers[customer_id] = Customer(
            mode=RecipientMode(document.get("recipient_mode") or RecipientMode.ACCEPT_ALL),
            plus_addressing=bool(document.get("plus_addressing", True)),
            max_message_bytes=document.get("max_message_bytes"),
            sync_interval_seconds=document.get("sync_interval_seconds"),
            last_good_sync_at=document.get("last_good_sync_at"),
            trace_kept=timedelta(days=days) if days else TRACE_KEPT,
            is_suspended=document.get("state") == "suspended",
        )

    def trace_kept(self, customer_id: str) -> timedelta:
        """How long a customer's messages stay in the trace once they are done (SPEC R13)."""
        customer = self.customers.get(customer_id)
        return TRACE_KEPT if customer is None else customer.trace_kept

    def put_domain(self, domain_id: str, document: Mapping[str, Any] | None) -> None:
        """Take a domain's document."""
        old = self._claims.pop(domain_id, None)
        if old is not None:
            _forget(self._domains, old.name, domain_id)
        if document is not None:
            new = Domain(
                document["name"], document["customer_id"], DomainState(document["state"]), document.get("site_id")
            )
            self._claims[domain_id] = new
            self._domains.setdefault(new.name, []).append(domain_id)

    def put_site(self, site_id: str, document: Mapping[str, Any] | None) -> None:
        """Take a site's document."""
        old = self._sites.pop(site_id, None)
        if old is not None:
            _forget(self._sites_of, old.customer_id, site_id)
        if document is not None:
            servers = tuple(
                Server(item["host"], int(item["port"]), int(item["priority"]), item.get("tls") or "opportunistic")
                for item in document["servers"]
            )
            new = Site(site_id, document["customer_id"], bool(document["is_default"]), servers)
            self._sites[site_id] = new
            self._sites_of.setdefault(new.customer_id, []).append(site_id)

    def put_user(self, user_id: str, document: Mapping[str, Any] | None) -> None:
        """Take a user's document; only those with a site of their own are kept."""
        site_id = document.get("site_id") if document else None
        if site_id is None:
            self._user_sites.pop(user_id, None)
        else:
            self._user_sites[user_id] = site_id

    def put_address(self, document: Mapping[str, Any]) -> None:
        """Take an address's document; one that is not in a verified domain takes no mail (SPEC U4)."""
        local, _, domain = document["key"].rpartition("@")
        if not document.get("verified"):
            self._remove(local, domain, document["user_id"])
            return
        self._users.setdefault(domain, {})[local] = _pack(document["user_id"])

    def remove_address(self, document: Mapping[str, Any]) -> None:
        """Forget an address, unless it belongs to another user by now."""
        local, _, domain = document["key"].rpartition("@")
        self._remove(local, domain, document["user_id"])

    def _remove(self, local: str, domain: str, user_id: str) -> None:
        users = self._users.get(domain)
        if users is not None and users.get(local) == _pack(user_id):
            del users[local]
            if not users:
                del self._users[domain]

    def put_known(self, document_id: Any, document: Mapping[str, Any] | None) -> None:
        """Take an address that a customer's directory has and no user here (SPEC R4)."""
        customer_id, key = self._known_keys.pop(document_id, ("", ""))
        if customer_id:
            self._known[customer_id].discard(key)
        if document is not None:
            self._known_keys[document_id] = document["customer_id"], document["key"]
            self._known.setdefault(document["customer_id"], set()).add(document["key"])

    def is_known(self, customer_id: str, key: str) -> bool:
        """Whether the customer's directory has the address."""
        return key in self._known.get(customer_id, ())

    def discovers(self, customer_id: str) -> bool:
        """Whether addresses that the customer's own servers take become users (SPEC U5); not in suspension (T9)."""
        customer = self.customers.get(customer_id)
        return customer is not None and customer.mode is RecipientMode.DISCOVER and not customer.is_suspended

    @property
    def addresses(self) -> int:
        """How many addresses are known."""
        return sum(len(users) for users in self._users.values())

    def find_user(self, key: str) -> str | None:
        """The id of the user that an address key belongs to."""
        local, _, domain = key.rpartition("@")
        packed = self._users.get(domain, {}).get(local)
        return None if packed is None else _unpack(packed)

    def domain(self, name: str) -> Domain | None:
        """The claim that counts: a verified one, else a pending, else an expired one."""
        claims = [self._claims[domain_id] for domain_id in self._domains.get(name, ())]
        return max(claims, key=lambda claim: _STRENGTH[claim.state], default=None)

    def facts(self, name: str, now: datetime) -> DomainFacts | None:
        """What decides on recipients in a domain."""
        claim = self.domain(name)
        if claim is None:
            return None
        if claim.state is not DomainState.VERIFIED:
            return DomainFacts(claim.state)
        customer = self.customers.get(claim.customer_id)
        if customer is None:
            return DomainFacts(DomainState.PENDING)  # its document has not come yet: put off
        return DomainFacts(
            claim.state,
            claim.customer_id,
            customer.mode,
            customer.plus_addressing,
            customer.max_message_bytes,
            customer.users_current(now),
        )

    def site_for(self, customer_id: str, domain: str, user_id: str | None) -> Site | None:
        """Where a customer's mail for a recipient goes (SPEC R1)."""
        claim = next(
            (
                self._claims[domain_id]
                for domain_id in self._domains.get(domain, ())
                if self._claims[domain_id].customer_id == customer_id
            ),
            None,
        )
        sites = [self._sites[site_id] for site_id in self._sites_of.get(customer_id, ())]
        user_site = self._user_sites.get(user_id) if user_id else None
        return choose_site(user_site, claim.site_id if claim else None, sites)

    def owner_of(self, domain: str) -> str | None:
        """The customer that has verified a domain."""
        claim = self.domain(domain)
        return claim.customer_id if claim is not None and claim.state is DomainState.VERIFIED else None


class Directory:
    """The current index and how far it may be trusted; answers the listener and the router."""

    def __init__(self, now: Callable[[], datetime], fresh_seconds: float) -> None:
        self.index: DirectoryIndex = DirectoryIndex()
        self.loaded = False
        self._now = now
        self._fresh_seconds = fresh_seconds
        self._heard_at = -float("inf")

    def alive(self) -> None:
        """The database was heard from: everything up to this moment is in the index."""
        self._heard_at = time.monotonic()

    def replace(self, index: DirectoryIndex) -> None:
        """Take an index that was read anew."""
        self.index = index
        self.loaded = True

    @property
    def fresh(self) -> bool:
        """Whether what the index does not know can be held to be unknown."""
        return self.loaded and time.monotonic() - self._heard_at <= self._fresh_seconds

    def lookup(self, mailbox: Mailbox) -> RecipientAnswer:
        """Decide on a recipient by the rule; a refusal that rests on an old index becomes "cannot tell"."""
        index = self.index
        facts = index.facts(mailbox.domain, self._now())
        answer = decide(mailbox, facts, index.find_user, is_known=index.is_known, readable=self.loaded)
        if answer.verdict in _REFUSALS and not self.fresh:
            return RecipientAnswer(Verdict.CANNOT_TELL)
        return answer


def _forget(index: dict[str, list[str]], key: str, value: str) -> None:
    values = index.get(key, [])
    if value in values:
        values.remove(value)
    if not values:
        index.pop(key, None)


def _pack(user_id: str) -> UserId:
    digits = user_id.removeprefix("usr_")
    if len(digits) == 32 and len(user_id) == 36:
        try:
            return bytes.fromhex(digits)
        except ValueError:
            return user_id
    return user_id


def _unpack(packed: UserId) -> str:
    return packed if isinstance(packed, str) else f"usr_{packed.hex()}"
