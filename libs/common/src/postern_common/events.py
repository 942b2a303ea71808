"""The catalogue of events (SPEC V1, V2): one model for each, with the facts that consumers need and nothing secret.

An event says what happened, in the past (two of them ask for something: `SyncRequested` and, to a human,
`DomainTransferRequested`). Adding an optional field is compatible; anything else is a new version beside the old one.
The AsyncAPI document, the docs, webhooks and the audit log follow from `CATALOGUE`.
"""

from datetime import datetime
from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field


class Event(BaseModel):
    """What all events share. `subject_field` names the field whose value is the CloudEvents `subject`."""

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_serialization_defaults_required=True)

    version: ClassVar[int] = 1
    subject_field: ClassVar[str] = "customer_id"
    consumers: ClassVar[tuple[str, ...]] = ()

    customer_id: str = Field(description="The tenant.", examples=["cus_0192f0c1a8b47c3e9d215b7f10aa3c55"])

    @classmethod
    def name(cls) -> str:
        """The event's name and routing key, such as `DomainAdded`."""
        return cls.__name__

    @classmethod
    def type(cls) -> str:
        """The CloudEvents type, such as `com.postern.DomainAdded.v1`."""
        return f"com.postern.{cls.__name__}.v{cls.version}"

    @property
    def subject(self) -> str:
        """The id of the thing that the event is about."""
        return str(getattr(self, self.subject_field))


_DOMAIN_ID = Field(description="The domain's id.", examples=["dom_0192f0c1a8b47c3e9d215b7f10aa3c56"])
_USER_ID = Field(description="The user's id.", examples=["usr_0192f0c1a8b47c3e9d215b7f10aa3c57"])
_MESSAGE_ID = Field(description="Postern's id of the message.", examples=["msg_0192f0c1a8b47c3e9d215b7f10aa3c58"])
_RUN_ID = Field(description="The synchronisation run's id.", examples=["run_0192f0c1a8b47c3e9d215b7f10aa3c59"])
_AT = Field(description="When, in UTC.", examples=["2026-01-31T12:00:00Z"])
_REASON = Field(description="Why, as a stable word or short public text.", examples=["no directory configured"])


class DomainEvent(Event):
    """An event about a domain."""

    subject_field: ClassVar[str] = "domain_id"
    domain_id: str = _DOMAIN_ID
    name_: str = Field(alias="name", description="The domain's A-label.", examples=["example.com"])
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, serialize_by_alias=True)


class DomainAdded(DomainEvent):
    """A customer added a domain, or started its verification again; it waits for its TXT record."""

    consumers: ClassVar[tuple[str, ...]] = ("dns-verifier",)
    deadline: datetime = _AT


class DomainVerified(DomainEvent):
    """The domain's ownership is proven; mail for it is taken from now on."""

    verified_at: datetime = _AT


class DomainVerificationExpired(DomainEvent):
    """No proof was found within 72 hours."""

    expired_at: datetime = _AT


class DomainRemoved(DomainEvent):
    """A customer removed the domain."""

    removed_users: int = Field(0, description="Users removed with it, whose primary address was in it.", examples=[0])
    removed_aliases: int = Field(0, description="Secondary addresses taken off their users.", examples=[0])


class DomainTransferRequested(DomainEvent):
    """Another customer proved a domain that this customer holds and whose own proof is gone; an operator decides."""

    claimant_customer_id: str = Field(
        description="The customer that proved it.", examples=["cus_0192f0c1a8b47c3e9d215b7f10aa3c60"]
    )


class UserEvent(Event):
    """An event about a user."""

    subject_field: ClassVar[str] = "user_id"
    user_id: str = _USER_ID


class UserAdded(UserEvent):
    """A user was created."""

    source: str = Field(description="ldap, entra, manual, csv or smtp.", examples=["manual"])


class UserUpdated(UserEvent):
    """Fields of a user changed."""

    fields: list[str] = Field(description="Names of the changed fields.", examples=[["aliases"]])


class UserFlaggedForDeletion(UserEvent):
    """The user will be deleted at `due_at`, or never while that is null; access ended, mail flows (SPEC X1)."""

    consumers: ClassVar[tuple[str, ...]] = ("deletion-scheduler",)
    due_at: datetime | None = _AT
    reason: str = _REASON


class UserDeletionDue(UserEvent):
    """A flagged user will be deleted soon: told 7, 3 and 1 days before."""

    due_at: datetime = _AT
    days: int = Field(description="At most so many days are left.", examples=[3])


class UserUnflagged(UserEvent):
    """The user's deletion was called off."""

    reason: str = _REASON


class UserDeleted(UserEvent):
    """The user and the user's rules are gone; what restoring needs is kept for a while (SPEC X2)."""

    reason: str = _REASON


class UserRestored(UserEvent):
    """A deleted user came back with what was kept."""


class ConflictResolved(UserEvent):
    """An administrator decided on a user who is gone from the directory."""

    action: Literal["delete", "ignore", "deactivate"] = Field(description="What was decided.", examples=["ignore"])


class SyncEvent(Event):
    """An event about a run of directory synchronisation."""

    subject_field: ClassVar[str] = "run_id"
    run_id: str = _RUN_ID


class SyncRequested(SyncEvent):
    """Somebody, or the schedule, asks for a run."""

    consumers: ClassVar[tuple[str, ...]] = ("directory-sync",)
    requested_by: str = Field(description="Principal's id, or `schedule`.", examples=["schedule"])


class SyncStarted(SyncEvent):
    """A run began to read the directory."""


class SyncCounts(SyncEvent):
    """What a run did."""

    read: int = Field(0, description="Entries read.", examples=[40])
    added: int = Field(0, description="Users added.", examples=[2])
    updated: int = Field(0, description="Users updated.", examples=[1])
    flagged: int = Field(0, description="Users flagged for deletion.", examples=[0])
    unflagged: int = Field(0, description="Users whose deletion was called off.", examples=[0])


class SyncCompleted(SyncCounts):
    """A run read the directory whole and applied everything."""


class SyncIncomplete(SyncCounts):
    """A run could not prove that it read everything; nobody was flagged."""

    reason: str = _REASON


class SyncHeld(SyncCounts):
    """A run's deletions wait for approval as a stored plan."""

    plan_hash: str = Field(description="Names the plan to approve.", examples=["9f86d081884c7d65"])
    reason: str = _REASON


class SyncFailed(SyncEvent):
    """A run ended without reading the directory."""

    reason: str = _REASON


class ProviderSwitched(Event):
    """A customer's directory source changed."""

    from_source: str = Field(description="The source before.", examples=["ldap"])
    to_source: str = Field(description="The source now.", examples=["entra"])


class CredentialExpiring(Event):
    """A stored credential ends soon."""

    credential: str = Field(description="Which one.", examples=["entra-client-secret"])
    expires_at: datetime = _AT


class MessageEvent(Event):
    """An event about a message. Addresses stand in the trace, not in events that leave the house."""

    subject_field: ClassVar[str] = "message_id"
    message_id: str = _MESSAGE_ID
    queue_id: str = Field(description="The queue id that the sender's server saw.", examples=["7KQ2M9X4T1"])


class MessageReceived(MessageEvent):
    """A message was taken: it is durable and its sender got 250."""

    direction: Literal["inbound", "outbound", "dsn"] = Field(description="Which way it goes.", examples=["inbound"])
    size: int = Field(description="Octets, with headers.", examples=[4096])
    recipients: int = Field(description="How many recipients.", examples=[1])


class MessageRejected(Event):
    """A message was refused while its sender was connected."""

    reply: str = Field(description="The SMTP reply.", examples=["550 5.7.1 refused by policy"])


class MessageQuarantined(MessageEvent):
    """A message is kept away from its recipients."""

    reason: str = _REASON


class MessageReleased(MessageEvent):
    """A kept message was let go to its recipients."""

    released_by: str = Field(description="Principal's id.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"])


class DeliveryTls(BaseModel):
    """The TLS of a delivery."""

    policy: Literal["opportunistic", "required", "encrypt", "dane", "mta-sts"] = Field(
        description="The policy that the connection met; `encrypt`: TLS was insisted on, whoever answers."
    )
    version: str | None = Field(description="Version of TLS; null in clear.")
    cipher: str | None = Field(description="Cipher suite; null in clear.")


class DeliveryEvent(MessageEvent):
    """The outcome of an attempt for some recipients of a message."""

    recipients: int = Field(description="How many recipients it is about.", examples=[1])
    next_hop: str = Field(
        description="The server that answered, or the one that could not be reached.", examples=["192.0.2.7:25"]
    )
    reply: str = Field(description="The SMTP reply, or what went wrong.", examples=["250 2.0.0 Ok: queued"])
    tls: DeliveryTls | None = Field(
        None,
        description="How the next hop was reached; null where there was no connection.",
        examples=[{"policy": "mta-sts", "version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"}],
    )


class MessageDelivered(DeliveryEvent):
    """The next hop took the message."""


class MessageDeferred(DeliveryEvent):
    """An attempt failed for now and will be made again."""

    next_attempt_at: datetime = _AT


class MessageBounced(DeliveryEvent):
    """Delivery failed for good; `dsn_sent` tells whether the sender is told."""

    dsn_sent: bool = Field(description="Whether a delivery status notification goes to the sender.", examples=[True])


class SenderPaused(Event):
    """A sender's outbound mail was stopped."""

    reason: str = _REASON


class SettingsChanged(Event):
    """An administrator changed a setting."""

    resource: str = Field(description="Which resource.", examples=["site"])
    resource_id: str = Field(description="Its id.", examples=["sit_0192f0c1a8b47c3e9d215b7f10aa3c62"])
    action: Literal["created", "updated", "deleted"] = Field(description="What was done.", examples=["updated"])


class SetupStateChanged(Event):
    """A step of the guided setup changed its state."""

    step: str = Field(description="The step.", examples=["domains"])
    state: str = Field(description="Its state now.", examples=["verified"])
    detail: str = Field("", description="What it is about.", examples=["example.com"])


_ABSTRACT = (DomainEvent, UserEvent, SyncEvent, SyncCounts, MessageEvent, DeliveryEvent)


def _concrete(kind: type[Event]) -> list[type[Event]]:
    found = [] if kind is Event or kind in _ABSTRACT else [kind]
    for child in kind.__subclasses__():
        found += _concrete(child)
    return found


CATALOGUE: Final[dict[str, type[Event]]] = {kind.name(): kind for kind in _concrete(Event)}
BY_TYPE: Final[dict[str, type[Event]]] = {kind.type(): kind for kind in CATALOGUE.values()}
