"""A hosted MTA-STS policy as senders meet it: its record, its host, what is fetched, whom it covers (SPEC R11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postern_common.mta_sts import (
    MEDIA_TYPE,
    RECORD_LABEL,
    REPORTS_LABEL,
    WELL_KNOWN,
    Policy,
    is_reports_record,
    is_sts_record,
    mail_hosts,
    record_id,
    report_destinations,
)
from postern_dns.rules.answers import Look
from postern_dns.rules.mx import MailState, MailVerdict

MAX_SHOWN: Final = 30
_WORST_FIRST: Final[tuple[MailState, ...]] = ("fail", "warn", "cannot_tell", "ok")


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer over HTTPS, or why there is none: `failure` may be shown, `is_passing` tells what may mend itself."""

    status: int = 0
    media_type: str = ""
    body: bytes = b""
    failure: str | None = None
    is_passing: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found: the TXT records, the addresses of the policy's host, and what it served; None if not asked."""

    host: str
    record: Look
    reports: Look
    addresses: tuple[Look, ...]
    fetched: Fetched | None

    @property
    def found_addresses(self) -> tuple[str, ...]:
        """Addresses of the policy's host, IPv4 first."""
        return addresses_of(self.addresses)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What each part is like; `state` is the worst of them. `is_told` is false where another look may say more."""

    state: MailState
    record: MailVerdict
    host: MailVerdict
    policy: MailVerdict
    mx: MailVerdict
    reports: MailVerdict
    is_told: bool

    def parts(self) -> dict[str, MailVerdict]:
        """The parts by name."""
        return {name: getattr(self, name) for name in ("record", "host", "policy", "mx", "reports")}


def addresses_of(looks: Sequence[Look]) -> tuple[str, ...]:
    """The addresses that looks of a name show, in their order."""
    return tuple(dict.fromkeys(address for look in looks if look.is_definite for address in look.agreed()))


def judge(domain: str, policy: Policy, evidence: Evidence, mx: MailVerdict) -> Verdict:
    """Compare what was found with the policy that is to be served; `mx` is what the domain's MX records were."""
    record = _judge_record(policy, evidence.record)
    host = _judge_host(evidence)
    served = _judge_served(policy, evidence)
    covered = _judge_covered(domain, policy, mx)
    reports = _judge_reports(evidence.reports)
    parts = (record, host, served, covered, reports)
    state = min((part.state for part in parts), key=_WORST_FIRST.index)
    return Verdict(state, record, host, served, covered, reports, is_told=all(part.is_told for part in parts))


def _cannot_tell(name: str) -> MailVerdict:
    return MailVerdict("cannot_tell", (), f"The name servers of {name} could not tell just now.", is_told=False)


def _judge_record(policy: Policy, look: Look) -> MailVerdict:
    """RFC 8461 3.1: exactly one record, well formed; its id is how senders notice a new policy."""
    if not look.is_definite:
        return _cannot_tell(look.name)
    found = tuple(text for text in look.agreed() if is_sts_record(text))
    if not found:
        text = f"There is no {RECORD_LABEL} record, so senders do not look for a policy. Publish “{policy.record}”."
        return MailVerdict("fail", (), text)
    if len(found) > 1:
        text = f"There are {len(found)} {RECORD_LABEL} records; senders take none of several. Leave “{policy.record}”."
        return MailVerdict("fail", found, text)
    named = record_id(found[0])
    if named is None:
        return MailVerdict("fail", found, f"Senders cannot read this record. Publish “{policy.record}”.")
    if named != policy.id:
        text = f"The record names another policy, so senders do not notice the present one. Publish “{policy.record}”."
        return MailVerdict("warn", found, text)
    return MailVerdict("ok", found, "The record names the policy that is served.")


def _judge_host(evidence: Evidence) -> MailVerdict:
    found = evidence.found_addresses
    if found:
        return MailVerdict("ok", found, f"{evidence.host} has an address.")
    if not all(look.is_definite for look in evidence.addresses):
        return _cannot_tell(evidence.host)
    text = f"{evidence.host} has no address, so senders cannot fetch the policy. Publish its CNAME record."
    return MailVerdict("fail", (), text)


def _judge_served(policy: Policy, evidence: Evidence) -> MailVerdict:
    """RFC 8461 3.3: 200, text/plain, no redirect, a valid certificate."""
    fetched, url = evidence.fetched, f"https://{evidence.host}{WELL_KNOWN}"
    if fetched is None:
        text = f"{url} was not asked for, since its host has no address."
        is_told = _judge_host(evidence).is_told
        return MailVerdict("fail" if is_told else "cannot_tell", (), text, is_told=is_told)
    if fetched.failure is not None:
        text = f"{url} cannot be fetched: {fetched.failure}."
        return MailVerdict("fail", (), text, is_told=not fetched.is_passing)
    if 300 <= fetched.status < 400:
        return MailVerdict("fail", (), f"{url} redirects ({fetched.status}), which senders do not follow.")
    if fetched.status != 200:
        return MailVerdict("fail", (), f"{url} answers with status {fetched.status}.")
    shown = tuple(fetched.body.decode("utf-8", "replace").splitlines()[:MAX_SHOWN])
    if fetched.media_type != MEDIA_TYPE:
        text = f"{url} is served as {fetched.media_type or 'nothing in particular'}, which senders refuse."
        return MailVerdict("fail", shown, text)
    if fetched.body != policy.text.encode():
        return MailVerdict("fail", shown, f"{url} serves another policy than the one that is set here.")
    return MailVerdict("ok", shown, f"{url} serves this policy.")


def _judge_covered(domain: str, policy: Policy, mx: MailVerdict) -> MailVerdict:
    if not mx.is_told:
        return MailVerdict(
            "cannot_tell", mx.found, "The domain's MX records could not be told just now.", is_told=False
        )
    hosts = mail_hosts(domain, mx.found)
    left_out = policy.leaves_out(hosts)
    if not left_out:
        return MailVerdict("ok", hosts, "The policy names all servers that the domain's mail goes to.")
    names = ", ".join(left_out)
    if policy.mode == "none":
        return MailVerdict("ok", hosts, f"The policy leaves out {names}, which means nothing with mode none.")
    if policy.mode == "testing":
        text = f"The policy leaves out {names}: once it is enforced, senders would bring no mail there."
        return MailVerdict("warn", hosts, text)
    text = f"The policy leaves out {names}: senders that keep to it bring no mail there. Name them, or change the MX."
    return MailVerdict("fail", hosts, text)


def _judge_reports(look: Look) -> MailVerdict:
    """RFC 8460 3. A domain does well without reports, but its owner learns of no failure."""
    if not look.is_definite:
        return _cannot_tell(look.name)
    found = tuple(text for text in look.agreed() if is_reports_record(text))
    if not found:
        return MailVerdict("warn", (), f"There is no {REPORTS_LABEL} record, so nobody reports failures of TLS.")
    if not report_destinations(found):
        return MailVerdict("fail", found, "Senders take this for no record, since it is malformed or not the only one.")
    return MailVerdict("ok", found, "Senders are asked for reports.")
