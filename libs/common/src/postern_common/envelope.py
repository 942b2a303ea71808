"""CloudEvents 1.0 in structured JSON mode (SPEC V2): the form in which every event travels and is stored."""

from datetime import datetime
from typing import Any, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from postern_common.errors import Rejected
from postern_common.events import BY_TYPE, Event
from postern_common.ids import new_id

CONTENT_TYPE: Final = "application/cloudevents+json"
SCHEMA_BASE: Final = "urn:postern:schema:"


class Envelope(BaseModel):
    """An event with its context. `source` is `/postern/<service>`; `causationid` is the event that led to this one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: AwareDatetime
    dataschema: str
    datacontenttype: str = "application/json"
    traceparent: str | None = None
    causationid: str | None = None
    data: dict[str, Any]

    @classmethod
    def of(
        cls,
        event: Event,
        *,
        service: str,
        now: datetime,
        traceparent: str | None = None,
        cause: "Envelope | None" = None,
    ) -> Self:
        """Wrap `event`, which happened in `service` at `now`."""
        return cls(
            id=new_id("evt"),
            source=f"/postern/{service}",
            type=event.type(),
            subject=event.subject,
            time=now,
            dataschema=f"{SCHEMA_BASE}{event.name()}:v{event.version}",
            traceparent=traceparent or (cause.traceparent if cause else None),
            causationid=cause.id if cause else None,
            data=event.model_dump(mode="json", by_alias=True),
        )

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read an envelope from the wire; raise `Rejected` with the reason if it is none."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Rejected("invalid-envelope", f"not a CloudEvents envelope: {where} {first['msg']}") from error

    @property
    def name(self) -> str:
        """The event's name and routing key."""
        return self.type.split(".")[-2] if self.type.count(".") >= 3 else self.type

    @property
    def customer_id(self) -> str:
        """The tenant that the event belongs to."""
        return str(self.data.get("customer_id", ""))

    def event(self) -> Event:
        """The typed event; raise `Rejected` if its type is unknown or its data do not fit."""
        kind = BY_TYPE.get(self.type)
        if kind is None:
            raise Rejected("unknown-event", f"unknown event type {self.type[:100]!r}")
        try:
            return kind.model_validate(self.data)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Rejected("invalid-event", f"{self.type}: {where} {first['msg']}") from error

    def to_json(self) -> bytes:
        """The wire form, without absent attributes."""
        return self.model_dump_json(exclude_none=True).encode()

    def to_document(self) -> dict[str, Any]:
        """The stored form: plain JSON types."""
        return self.model_dump(mode="json", exclude_none=True)
