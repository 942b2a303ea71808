"""Bodies of hosted MTA-STS policies."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from postern_api.domains.names import cname_record, txt_record
from postern_api.domains.rules.mta_sts import binding_until, is_removable
from postern_api.http.schemas import EXAMPLE_TIME, DomainText, Input, Output
from postern_common.mta_sts import (
    LONGEST_URI,
    MAX_DESTINATIONS,
    MAX_MAX_AGE,
    MAX_PATTERNS,
    MIN_MAX_AGE,
    NONE_MAX_AGE,
    POLICY_LABEL,
    RECORD_LABEL,
    REPORTS_LABEL,
    Mode,
    policy_of,
    reports_record,
)

State = Literal["ok", "warn", "fail", "cannot_tell"]
_ID: Final = "d730c5994e9c377b8e39"
_TEXT: Final = "version: STSv1\r\nmode: testing\r\nmx: mx1.example.net\r\nmax_age: 604800\r\n"
_IN_FORCE: Final = (
    "To turn it off, set mode `none` first and publish the record of the new id. Then leave the records and the policy "
    "in place until senders have forgotten the policies that they hold (RFC 8461 8.3)."
)
_WAITING: Final = (
    "Senders may hold an earlier policy until then. Leave the records and the policy in place; after that remove the "
    "records, and delete the policy last."
)
_FREE: Final = "Nobody holds an earlier policy any more: remove the records, and delete the policy last."


class MtaStsInput(Input):
    """What a policy is to say."""

    mode: Mode = Field(
        description="`testing` has senders report and deliver; `enforce` has them deliver by TLS to the named servers "
        "or not at all; `none` ends an earlier policy.",
        examples=["testing"],
    )
    max_age: int | None = Field(
        None,
        ge=MIN_MAX_AGE,
        le=MAX_MAX_AGE,
        description="For how many seconds senders keep the policy; a week if it is not given, a day with mode `none`.",
        examples=[604_800],
    )
    extra_mx: list[DomainText] = Field(
        default_factory=list,
        max_length=MAX_PATTERNS,
        description="Further mail servers of the domain, beside this gateway's; a leading `*.` stands for one label.",
        examples=[["*.mail.example.org"]],
    )
    report_to: list[Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_URI)]] = Field(
        default_factory=list,
        max_length=MAX_DESTINATIONS,
        description="Where senders are asked to send TLS reports: `mailto:` or `https:` URIs. The domain's postmaster, "
        "if none is given.",
        examples=[["mailto:tls-reports@example.com"]],
    )

    @model_validator(mode="after")
    def _none_is_short(self) -> Self:
        if self.mode == "none" and self.max_age not in (None, NONE_MAX_AGE):
            raise ValueError(f"with mode `none` the max_age is {NONE_MAX_AGE} (RFC 8461 8.3)")
        return self


class PublishedRecord(Output):
    """A record to publish, ready to paste."""

    purpose: Literal["policy_id", "policy_host", "reports"] = Field(
        description="Names the policy, leads to its server, asks for reports.", examples=["policy_id"]
    )
    host: str = Field(
        description="What to type as host in a provider's form, which appends the zone.", examples=["_mta-sts"]
    )
    type: Literal["TXT", "CNAME"] = Field(description="The record's type.", examples=["TXT"])
    value: str = Field(description="What to type as value.", examples=[f"v=STSv1; id={_ID};"])
    zone_line: str = Field(
        description="The same as a line of a zone file.",
        examples=[f'_mta-sts.example.com. 300 IN TXT "v=STSv1; id={_ID};"'],
    )


class CheckedPart(Output):
    """What one part looks like from outside."""

    state: State = Field(description="In short.", examples=["ok"])
    found: list[str] = Field(description="What was found.", examples=[[f"v=STSv1; id={_ID};"]])
    explanation: str = Field(description="For people.", examples=["The record names the policy that is served."])


class PolicyCheck(Output):
    """The last look from outside."""

    at: datetime = Field(description="When.", examples=[EXAMPLE_TIME])
    state: State = Field(description="The worst of the parts' states.", examples=["ok"])
    policy_id: str = Field(description="The policy that it was compared with.", examples=[_ID])
    record: CheckedPart = Field(description="The TXT record that names the policy.")
    host: CheckedPart = Field(description="The name at which senders fetch it.")
    policy: CheckedPart = Field(description="What they get there, over HTTPS.")
    mx: CheckedPart = Field(description="Whether the policy names all servers of the domain's MX records.")
    reports: CheckedPart = Field(description="The TXT record that asks for TLS reports.")


class TurningOff(Output):
    """How the policy may end."""

    possible: bool = Field(description="Whether the policy may be deleted now.", examples=[False])
    possible_at: datetime | None = Field(
        description="From when on, once the mode is `none`; null while it is not.", examples=[None]
    )
    explanation: str = Field(description="For people.", examples=[_IN_FORCE])


class MtaSts(Output):
    """A hosted policy."""

    mode: Mode = Field(description="What senders are to do.", examples=["testing"])
    max_age: int = Field(description="For how many seconds senders keep the policy.", examples=[604_800])
    mx: list[str] = Field(description="All mail servers that it names.", examples=[["mx1.example.net"]])
    extra_mx: list[str] = Field(description="Those of them that were added by hand.", examples=[[]])
    report_to: list[str] = Field(
        description="Where TLS reports are asked for.", examples=[["mailto:postmaster@example.com"]]
    )
    policy_id: str = Field(description="Changes with every change of the policy.", examples=[_ID])
    policy: str = Field(description="The text that is served.", examples=[_TEXT])
    url: str = Field(
        description="Where senders fetch it.", examples=["https://mta-sts.example.com/.well-known/mta-sts.txt"]
    )
    records: list[PublishedRecord] = Field(description="What to publish in the domain's DNS.")
    check: PolicyCheck | None = Field(description="The last look from outside, if there was one.")
    turning_off: TurningOff = Field(description="How it may end.")
    created_at: datetime = Field(description="When it was set up.", examples=[EXAMPLE_TIME])
    updated_at: datetime = Field(description="When it was changed last.", examples=[EXAMPLE_TIME])


def to_mta_sts(domain: Any, policy_host: str, now: datetime) -> MtaSts:
    """The answer for the stored policy of `domain`; `policy_host` is where this installation serves policies."""
    stored, name = domain["mta_sts"], domain["name"]
    policy = policy_of(stored)
    report_to = stored["report_to"] or [f"mailto:postmaster@{name}"]
    same = ("mode", "max_age", "mx", "extra_mx", "created_at", "updated_at")
    return MtaSts(
        **{field: stored[field] for field in same},
        report_to=report_to,
        policy_id=policy.id,
        policy=policy.text,
        url=f"https://{POLICY_LABEL}.{name}/.well-known/mta-sts.txt",
        records=_records(name, policy.record, policy_host, reports_record(report_to)),
        check=None if stored["check"] is None else _to_check(stored["check"]),
        turning_off=_turning_off(stored, now),
    )


def _records(name: str, record: str, policy_host: str, reports: str) -> list[PublishedRecord]:
    made = [
        ("policy_id", "TXT", txt_record(f"{RECORD_LABEL}.{name}", name, record)),
        ("reports", "TXT", txt_record(f"{REPORTS_LABEL}.{name}", name, reports)),
    ]
    if policy_host:
        made.insert(1, ("policy_host", "CNAME", cname_record(f"{POLICY_LABEL}.{name}", name, policy_host)))
    return [
        PublishedRecord(purpose=purpose, type=kind, host=one.host, value=one.value, zone_line=one.zone_line)  # type: ignore[arg-type]
        for purpose, kind, one in made
    ]


def _to_check(stored: Any) -> PolicyCheck:
    parts = ("record", "host", "policy", "mx", "reports")
    return PolicyCheck(
        at=stored["at"],
        state=stored["state"],
        policy_id=stored["policy_id"],
        **{part: CheckedPart(**{field: stored[part][field] for field in CheckedPart.model_fields}) for part in parts},
    )


def _turning_off(stored: Any, now: datetime) -> TurningOff:
    if stored["mode"] != "none":
        return TurningOff(possible=False, possible_at=None, explanation=_IN_FORCE)
    if is_removable(stored, now):
        return TurningOff(possible=True, possible_at=None, explanation=_FREE)
    return TurningOff(possible=False, possible_at=binding_until(stored, now), explanation=_WAITING)
