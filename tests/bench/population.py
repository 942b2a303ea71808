"""Customers, domains, sites, users and addresses in the form in which the services store them, written in bulk.

Recipient `number` belongs to customer `number % customers`, so that all customers have the same number of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from pymongo import MongoClient
from pymongo.collection import Collection

from postern_common.documents import (
    AddressDocument,
    Collections,
    CustomerDocument,
    DomainDocument,
    DomainState,
    RecipientMode,
    SiteDocument,
    UserDocument,
    UserSource,
    UserState,
)
from postern_common.ids import new_id

BATCH: Final = 10_000
NOW: Final = datetime.now(UTC)


@dataclass(frozen=True)
class Population:
    """So many recipients spread over so many customers, each of which has one domain and one site."""

    customers: int
    recipients: int
    customer_ids: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "customer_ids", [new_id("cus") for _ in range(self.customers)])

    def domain(self, customer: int) -> str:
        """The domain of a customer by number."""
        return f"c{customer}.scale.test"

    def recipient(self, number: int) -> str:
        """The address of a recipient by number."""
        return f"user.{number:07d}@{self.domain(number % self.customers)}"

    def fill(self, client: MongoClient[dict[str, Any]], database: str) -> None:
        """Write all of it into an empty database; its indexes are made afterwards, which is quicker."""
        there = client[database]
        for name, documents in (
            (Collections.CUSTOMERS, self._customers()),
            (Collections.DOMAINS, self._domains()),
            (Collections.SITES, self._sites()),
        ):
            _write(there[name.value], documents)
        numbers = iter(range(self.recipients))
        while batch := list(islice(numbers, BATCH)):
            users = [self._user(number) for number in batch]
            there[Collections.USERS.value].insert_many(users, ordered=False)
            there[Collections.ADDRESSES.value].insert_many([address_of(user) for user in users], ordered=False)

    def _customers(self) -> Iterator[Any]:
        for number, key in enumerate(self.customer_ids):
            yield CustomerDocument(
                _id=key,
                name=f"Customer {number}",
                partner_id=None,
                allowed_users=None,
                state="active",
                recipient_mode=RecipientMode.KNOWN_ONLY,
                plus_addressing=True,
                deletion_delay_days=7,
                max_message_bytes=52_428_800,
                retention={"trace_days": 30, "quarantine_days": 30, "audit_days": 365, "deleted_users_days": 90},
                sync_interval_seconds=None,
                last_good_sync_at=None,
                created_at=NOW,
                updated_at=NOW,
                version=1,
            )

    def _domains(self) -> Iterator[Any]:
        for number, customer_id in enumerate(self.customer_ids):
            yield DomainDocument(
                _id=new_id("dom"),
                customer_id=customer_id,
                name=self.domain(number),
                unicode_name=self.domain(number),
                state=DomainState.VERIFIED,
                detail=None,
                code=new_id("run")[4:30],
                site_id=None,
                pending_since=NOW,
                deadline=NOW + timedelta(hours=72),
                next_check_at=None,
                requested_at=None,
                check_attempts=1,
                lease_owner=None,
                lease_until=None,
                last_check=None,
                expiry_warned_at=None,
                verified_at=NOW,
                mx=None,
                spf=None,
                mail_dns_next_at=None,
                created_at=NOW,
                updated_at=NOW,
                version=1,
            )

    def _sites(self) -> Iterator[Any]:
        for customer_id in self.customer_ids:
            yield SiteDocument(
                _id=new_id("sit"),
                customer_id=customer_id,
                description="Head office",
                is_default=True,
                servers=[
                    {"id": new_id("srv"), "host": "mail.scale.test", "port": 25, "priority": 10, "tls": "opportunistic"}
                ],
                created_at=NOW,
                updated_at=NOW,
                version=1,
            )

    def _user(self, number: int) -> Any:
        address = self.recipient(number)
        return UserDocument(
            _id=new_id("usr"),
            customer_id=self.customer_ids[number % self.customers],
            email=address,
            email_key=address,
            aliases=[],
            kind="user",
            source=UserSource.MANUAL,
            first_name="Ada",
            last_name=f"Lovelace {number}",
            home_phone="",
            mobile="",
            company="",
            department="",
            notes="",
            site_id=None,
            settings={},
            state=UserState.ACTIVE,
            flagged_at=None,
            due_at=None,
            flag_reason=None,
            external_id=None,
            external_id_kind=None,
            immutable_id=None,
            directory_state=None,
            created_at=NOW,
            updated_at=NOW,
            version=1,
        )


def address_of(user: UserDocument) -> Any:
    """The address document of a user's primary address, in a verified domain."""
    return AddressDocument(
        customer_id=user["customer_id"],
        key=user["email_key"],
        domain=user["email_key"].rpartition("@")[2],
        user_id=user["_id"],
        is_primary=True,
        verified=True,
    )


def _write(collection: Collection[dict[str, Any]], documents: Iterable[Any]) -> None:
    left = iter(documents)
    while batch := list(islice(left, BATCH)):
        collection.insert_many(batch, ordered=False)
