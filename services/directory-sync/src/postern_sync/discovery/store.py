"""Notes of discovered addresses, and what turning one into a user reads and writes."""

from datetime import datetime
from typing import Any, Final

from postern_common.documents import Collections, DomainState, RecipientMode
from postern_common.mongo import PLATFORM, Mongo, Session, TenantScope
from postern_sync.planning.known import DISCOVERED
from postern_sync.rules.entries import FIELDS, Mailbox

Document = dict[str, Any]
SOURCE: Final = "smtp"


class DiscoveryStore:
    """The notes of all customers, and the users of the one whose note is worked on."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo

    async def waiting(self, limit: int) -> list[Document]:
        """Some notes, the oldest first."""
        return await self.mongo.collection(Collections.DISCOVERIES, PLATFORM).find({}, limit=limit, sort=[("_id", 1)])

    async def remove(self, note: Document, session: Session) -> bool:
        """Take the note away; False if somebody else did."""
        notes = self.mongo.collection(Collections.DISCOVERIES, TenantScope(note["customer_id"]))
        return bool(await notes.delete_one({"_id": note["_id"]}, session=session))

    async def wants(self, customer_id: str, session: Session) -> Document | None:
        """The customer, held until the transaction ends; None where it does not discover, is suspended, or gone."""
        customers = self.mongo.collection(Collections.CUSTOMERS, TenantScope(customer_id))
        query = {"_id": customer_id, "recipient_mode": RecipientMode.DISCOVER.value, "state": {"$ne": "suspended"}}
        return await customers.find_one_and_update(query, {"$inc": {"writes": 1}}, session=session)

    async def is_verified(self, customer_id: str, domain: str, session: Session) -> bool:
        """Whether the domain is the customer's and proven; it stays so until the transaction ends."""
        domains = self.mongo.collection(Collections.DOMAINS, TenantScope(customer_id))
        query = {"name": domain, "state": DomainState.VERIFIED.value}
        return bool(await domains.update_one(query, {"$inc": {"writes": 1}}, session=session))

    async def is_taken(self, customer_id: str, key: str, session: Session) -> bool:
        """Whether somebody has the address by now."""
        addresses = self.mongo.collection(Collections.ADDRESSES, TenantScope(customer_id))
        return await addresses.find_one({"key": key}, session=session) is not None

    async def is_in_directory(self, customer_id: str, key: str, session: Session) -> bool:
        """Whether the directory has the address, and leaves it out for now."""
        known = self.mongo.collection(Collections.KNOWN_ADDRESSES, TenantScope(customer_id))
        return await known.find_one({"key": key, "reason": {"$ne": DISCOVERED}}, session=session) is not None

    async def licences_in_use(self, customer_id: str, session: Session) -> int:
        """How many users count (SPEC T6)."""
        users = self.mongo.collection(Collections.USERS, TenantScope(customer_id))
        return await users.count({"kind": "user"}, session=session)

    async def know(self, customer_id: str, mailbox: Mailbox, session: Session) -> None:
        """Make the address known without a user (SPEC R4, T6); one that is known already stays as it is."""
        known = self.mongo.collection(Collections.KNOWN_ADDRESSES, TenantScope(customer_id))
        row = {"domain": mailbox.domain, "reason": DISCOVERED}
        await known.update_one({"key": mailbox.key}, {"$setOnInsert": row}, upsert=True, session=session)

    async def add(self, customer_id: str, user_id: str, mailbox: Mailbox, now: datetime, session: Session) -> None:
        """Keep the user and the address, which needs nothing else to be known."""
        scope = TenantScope(customer_id)
        known = self.mongo.collection(Collections.KNOWN_ADDRESSES, scope)
        await known.delete_many({"key": mailbox.key}, session=session)
        await self.mongo.collection(Collections.USERS, scope).insert_one(
            {
                "_id": user_id,
                "email": mailbox.address,
                "email_key": mailbox.key,
                "aliases": [],
                "kind": "user",
                "source": SOURCE,
                **dict.fromkeys(FIELDS, ""),
                "site_id": None,
                "settings": {},
                "state": "active",
                "flagged_at": None,
                "due_at": None,
                "flag_reason": None,
                "external_id": None,
                "external_id_kind": None,
                "immutable_id": None,
                "directory_state": None,
                "created_at": now,
                "updated_at": now,
                "version": 1,
            },
            session=session,
        )
        await self.mongo.collection(Collections.ADDRESSES, scope).insert_one(
            {
                "key": mailbox.key,
                "domain": mailbox.domain,
                "user_id": user_id,
                "is_primary": True,
                "verified": True,
            },
            session=session,
        )
