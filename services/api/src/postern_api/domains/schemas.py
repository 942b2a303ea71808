"""Bodies of domains, as the outside contract shows them."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.domains.names import verification_records
from postern_api.http.schemas import EXAMPLE_TIME, DomainText, Input, ListQuery, Output, Patch
from postern_common.documents import DomainState

_VALUE: Final = "postern-verification=mfrggzdfmztwq2lknnwg23tpoa"
Reason = Literal[
    "verified", "no_txt", "txt_present_no_match", "nxdomain", "servfail_or_dnssec_bogus", "refused", "timeout",
    "cname_at_name", "found_at_doubled_name", "partial_propagation",
]  # fmt: skip


class NewDomain(Input):
    """A domain to be. Its verification record is made by Postern alone."""

    name: DomainText = Field(
        description="The name, in Unicode or as A-label; case does not matter.", examples=["example.com"]
    )


class DomainPatch(Patch):
    """What to change of a domain."""

    site_id: str | None = Field(
        None, max_length=100, description="Where its mail goes; null is the default site.",
        examples=["sit_0192f0c1a8b47c3e9d215b7f10aa3c62"],
    )  # fmt: skip


class TxtRecord(Output):
    """A record to publish, ready to paste."""

    host: str = Field(description="What to type as host in a provider's form, which appends the zone.", examples=["@"])
    type: Literal["TXT"] = Field("TXT", description="The record's type.", examples=["TXT"])
    value: str = Field(description="What to type as value.", examples=[_VALUE])
    zone_line: str = Field(
        description="The same as a line of a zone file.", examples=[f'example.com. 300 IN TXT "{_VALUE}"']
    )


class CheckedServer(Output):
    """What one name server said."""

    name: str = Field(description="The server.", examples=["ns1.example.com"])
    address: str = Field(description="Its address.", examples=["192.0.2.53"])
    reason: Reason = Field(description="What its answer means.", examples=["no_txt"])


class LastCheck(Output):
    """The last look at the record."""

    at: datetime = Field(description="When.", examples=[EXAMPLE_TIME])
    outcome: Literal["match", "mismatch", "absent", "cannot_tell"] = Field(description="In short.", examples=["absent"])
    reason: Reason = Field(description="More precisely.", examples=["no_txt"])
    found: list[str] = Field(description="TXT values that were found.", examples=[["v=spf1 -all"]])
    servers: list[CheckedServer] = Field(description="Who was asked.")
    explanation: str = Field(description="For people.", examples=["The domain has no TXT record yet."])


class Verification(Output):
    """How the domain's ownership is proven."""

    method: Literal["dns_txt"] = Field("dns_txt", description="By a DNS TXT record.", examples=["dns_txt"])
    record: TxtRecord = Field(description="The record at the domain itself.")
    records: list[TxtRecord] = Field(description="Either proves it: at the domain itself, or at the challenge label.")
    next_check_at: datetime | None = Field(description="When it is looked at next by itself.", examples=[EXAMPLE_TIME])
    deadline: datetime = Field(description="When a pending domain expires.", examples=[EXAMPLE_TIME])
    last_check: LastCheck | None = Field(description="The last look, if there was one.")


class Domain(Output):
    """A customer's domain."""

    id: str = Field(description="Its id, the subject of its events.", examples=["dom_0192f0c1a8b47c3e9d215b7f10aa3c56"])
    name: str = Field(description="As A-label.", examples=["xn--bcher-kva.example"])
    unicode_name: str = Field(description="As people write it.", examples=["bücher.example"])
    state: DomainState = Field(description="Mail is taken for verified domains only.", examples=["pending"])
    detail: str | None = Field(description="`verified_elsewhere` where another customer holds it.", examples=[None])
    site_id: str | None = Field(description="Where its mail goes; null is the default site.", examples=[None])
    verification: Verification = Field(description="How its ownership is proven.")
    verified_at: datetime | None = Field(description="Since when it is verified.", examples=[None])
    created_at: datetime = Field(description="When it was added.", examples=[EXAMPLE_TIME])
    updated_at: datetime = Field(description="When it was changed last.", examples=[EXAMPLE_TIME])


class MailRecord(Output):
    """The state of a domain's MX or SPF record, looked at daily once the domain is verified."""

    state: Literal["ok", "warn", "fail", "cannot_tell", "unknown"] = Field(
        description="`unknown` before the first look.", examples=["ok"]
    )
    found: list[str] = Field(description="What was found.", examples=[["10 mx1.example.net"]])
    explanation: str = Field(description="For people.", examples=["All MX records lead to this gateway."])
    checked_at: datetime | None = Field(description="When.", examples=[EXAMPLE_TIME])


class DomainList(ListQuery):
    """What the list of domains takes."""

    sort: Literal["name", "-name", "created_at", "-created_at"] = Field(
        "name", description="The order.", examples=["name"]
    )
    state: DomainState | None = Field(None, description="Only those in this state.", examples=["verified"])
    site_id: str | None = Field(None, max_length=100, description="Only those of this site.", examples=[None])


SORTS: Final = {"name": "name", "created_at": "_id"}


def to_domain(document: Any) -> Domain:
    """The answer for a stored domain."""
    apex, challenge = (
        TxtRecord(host=record.host, value=record.value, zone_line=record.zone_line)
        for record in verification_records(document["name"], document["code"])
    )
    last = document["last_check"]
    same = ("name", "unicode_name", "state", "detail", "site_id", "verified_at", "created_at", "updated_at")
    return Domain(
        id=document["_id"],
        verification=Verification(
            record=apex,
            records=[apex, challenge],
            next_check_at=document["next_check_at"],
            deadline=document["deadline"],
            last_check=None if last is None else to_check(last),
        ),
        **{field: document[field] for field in same},
    )


def to_check(last: Any) -> LastCheck:
    """The answer for a stored look; fields that the verifier keeps for itself stay inside."""
    servers = [
        CheckedServer(**{name: server[name] for name in CheckedServer.model_fields}) for server in last["servers"]
    ]
    fields = {name: last[name] for name in LastCheck.model_fields if name != "servers"}
    return LastCheck(servers=servers, **fields)


def to_mail_record(stored: Any) -> MailRecord:
    """The answer for the stored state of MX or SPF."""
    if stored is None:
        return MailRecord(state="unknown", found=[], explanation="It has not been looked at yet.", checked_at=None)
    return MailRecord(**{name: stored[name] for name in MailRecord.model_fields})
