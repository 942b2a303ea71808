"""Whether a read is proven whole, and whether its absences may count at once (SPEC S16, BEHAVIOURS 3.2).

Without the proof nobody is flagged, and no approval overrides that. With it, absences that may come from a changed
question (another filter, base DN, exception, option or provider) are held for approval, however few they are.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from postern_common.directory_documents import LastGoodDocument, Provider
from postern_sync.rules.report import ReadReport

Hold = Literal["filter", "provider_switch", "first_run"]


@dataclass(frozen=True, slots=True)
class Proof:
    """`reasons` say what the proof lacks; `holds` why flags wait for approval although the read is whole."""

    reasons: tuple[str, ...]
    holds: tuple[Hold, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the directory was read whole."""
        return not self.reasons


def prove(report: ReadReport, last_good: LastGoodDocument | None, provider: Provider, scope: str) -> Proof:
    """Judge a read by its report and by the last good run."""
    return Proof(tuple(_lacks(report, last_good, provider)), _holds(last_good, provider, scope))


def _lacks(report: ReadReport, last_good: LastGoodDocument | None, provider: Provider) -> Iterable[str]:
    yield from report.problems
    if not report.base_readable:
        yield "base_dn: the base entry could not be read"
    if report.users < 1:
        yield "no_users: no user was read; an account without the right to read looks the same"
    if report.attribute_errors:
        yield f"attributes: {report.attribute_errors} entries could not be read in full"
    if last_good is None or last_good["provider"] != provider:
        return
    if report.referrals > last_good["referrals"]:
        yield f"referrals: {report.referrals} parts lie on other servers, {last_good['referrals']} before"
    yield from _replica(report, last_good)


def _replica(report: ReadReport, last_good: LastGoodDocument) -> Iterable[str]:
    """A domain controller that is behind, or another one that may be, cannot tell who is gone."""
    before, now = last_good["invocation_id"], report.invocation_id
    if before is None or now is None:
        return
    if before != now:
        yield "other_server: another domain controller answered; its word counts when it answers again"
    elif report.usn is not None and last_good["usn"] is not None and report.usn < last_good["usn"]:
        yield "server_behind: the domain controller is behind what it was at the last good run"


def _holds(last_good: LastGoodDocument | None, provider: Provider, scope: str) -> tuple[Hold, ...]:
    if last_good is None:
        return ("first_run",)
    if last_good["provider"] != provider:
        return ("provider_switch",)
    return () if last_good["scope_hash"] == scope else ("filter",)


def scope_hash(question: Mapping[str, Any], exceptions: Iterable[tuple[str, str]]) -> str:
    """Names what is asked of a directory: base, filters, options, attribute names and exceptions, in any order."""
    text = json.dumps([question, sorted(exceptions)], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
