"""What a look at a verified domain's mail records writes down: MX, SPF, and the MTA-STS policy hosted for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from postern_common.mta_sts import policy_of
from postern_dns.rules import schedule
from postern_dns.rules.mta_sts import Verdict
from postern_dns.rules.mx import MailVerdict

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MailFindings:
    """What a look that began at `started` found; `hosted` is None where no policy is hosted."""

    started: datetime
    mx: MailVerdict
    spf: MailVerdict
    hosted: Verdict | None = None

    @property
    def is_told(self) -> bool:
        """False where another look may say more."""
        return self.mx.is_told and self.spf.is_told and (self.hosted is None or self.hosted.is_told)


def mail_fields(
    claim: Mapping[str, Any], domain: Mapping[str, Any], found: MailFindings, *, chance: float
) -> tuple[Document, list[tuple[str, str]]]:
    """The fields to write, and each step of the setup whose state changed with its new one.

    `claim` is the domain as the look began with it, `domain` as it is now. Asked for meanwhile, another look follows at
    once; what was found of a policy that has been changed meanwhile says nothing of the present one.
    """
    next_at = schedule.next_mail_look(found.started, told=found.is_told, chance=chance)
    if domain["mail_dns_next_at"] != claim["mail_dns_next_at"]:
        next_at = domain["mail_dns_next_at"]
    fields: Document = {"mail_dns_next_at": next_at}
    changed: list[tuple[str, str]] = []
    for step, verdict in (("mx", found.mx), ("spf", found.spf)):
        if (domain[step] or {}).get("state") != verdict.state:
            changed.append((step, verdict.state))
        fields[step] = {**_part(verdict), "checked_at": found.started}
    hosted = domain.get("mta_sts")
    if found.hosted is not None and hosted is not None and policy_of(hosted) == policy_of(claim["mta_sts"]):
        if (hosted["check"] or {}).get("state") != found.hosted.state:
            changed.append(("mta-sts", found.hosted.state))
        fields["mta_sts.check"] = {
            "at": found.started,
            "state": found.hosted.state,
            "policy_id": policy_of(hosted).id,
            **{name: _part(verdict) for name, verdict in found.hosted.parts().items()},
        }
    return fields, changed


def _part(verdict: MailVerdict) -> Document:
    return {"state": verdict.state, "found": list(verdict.found), "explanation": verdict.explanation}
