"""Whether a read is proven whole, and whether its absences may count at once (SPEC S16, BEHAVIOURS 3.2).

Without the proof nobody is flagged, and no approval overrides that. With it, absences that may come from a changed
question (another filter, base DN, exception, option or provider) are held for approval, however few they are; those
that may come from parts of the directory moving to another server are, too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from postern_common.directory_documents import DoubtDocument, LastGoodDocument, Provider, QuestionDocument
from postern_sync.rules.report import ReadReport

Hold = Literal["filter", "provider_switch", "first_run", "referrals"]
OTHER_SERVER: Final = "other_server"
REFERRALS: Final = "referrals"
EXCEPTIONS: Final = "exceptions"


@dataclass(frozen=True, slots=True)
class Proof:
    """`reasons` say what the proof lacks; `holds` why flags wait for approval although the read is whole."""

    reasons: tuple[str, ...]
    holds: tuple[Hold, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the directory was read whole."""
        return not self.reasons


def prove(
    report: ReadReport,
    last_good: LastGoodDocument | None,
    provider: Provider,
    scope: str,
    doubt: DoubtDocument | None = None,
    asked: Sequence[QuestionDocument] = (),
) -> Proof:
    """Judge a read by its report, by the last good run, and by what the run before was in doubt about. `asked` are the
    questions of runs since the last good one.
    """
    return Proof(tuple(_lacks(report, last_good, provider, doubt)), _holds(report, last_good, provider, scope, asked))


def _lacks(
    report: ReadReport,
    last_good: LastGoodDocument | None,
    provider: Provider,
    doubt: DoubtDocument | None,
) -> Iterable[str]:
    yield from report.problems
    if not report.base_readable:
        yield "base_dn: the base entry could not be read"
    if report.users < 1:
        yield "no_users: no user was read; an account without the right to read looks the same"
    if report.attribute_errors:
        yield f"attributes: {report.attribute_errors} entries could not be read in full"
    if last_good is None or last_good["provider"] != provider:
        return
    usual = max(last_good["referrals"], doubt["referrals"] if doubt is not None else 0)
    if report.referrals > usual:
        yield REFERRALS + f": {report.referrals} parts lie on other servers, {last_good['referrals']} before"
    yield from _replica(report, last_good, doubt)


def _replica(report: ReadReport, last_good: LastGoodDocument, doubt: DoubtDocument | None) -> Iterable[str]:
    """A domain controller that is behind, or another one that may be, cannot tell who is gone.

    Another one is believed the second time in a row: the directory has had an interval to reach it.
    """
    before, now = last_good["invocation_id"], report.invocation_id
    if before is None or now is None:
        return
    usn = last_good["usn"]
    if before != now:
        if doubt is None or doubt["invocation_id"] != now:
            yield OTHER_SERVER + ": another domain controller answered; its word counts when it answers again"
            return
        usn = doubt["usn"]
    if report.usn is not None and usn is not None and report.usn < usn:
        yield "server_behind: the domain controller is behind what it was before"


def doubt_of(report: ReadReport, proof: Proof) -> DoubtDocument | None:
    """What counts when the next run finds it again; None where something else was lacking.

    A domain controller that is gone for good, or a new child domain, must not keep every later run from being proven.
    """
    if not all(reason.startswith((OTHER_SERVER, REFERRALS)) for reason in proof.reasons):
        return None
    return {"invocation_id": report.invocation_id, "usn": report.usn, "referrals": report.referrals}


def _holds(
    report: ReadReport,
    last_good: LastGoodDocument | None,
    provider: Provider,
    scope: str,
    asked: Sequence[QuestionDocument],
) -> tuple[Hold, ...]:
    if last_good is None:
        return ("first_run",)
    # Users whom a run under another question added are not missed at once by the one before either.
    if any(one["provider"] != provider for one in (last_good, *asked)):
        return ("provider_switch",)
    holds: list[Hold] = []
    if any(one["scope_hash"] != scope for one in (last_good, *asked)):
        holds.append("filter")
    if report.referrals > last_good["referrals"]:
        holds.append("referrals")
    return tuple(holds)


def scope_hash(question: Mapping[str, Any], exceptions: Iterable[tuple[str, str]]) -> str:
    """Names what is asked of a directory: base, filters, options, attribute names and exceptions, in any order."""
    return _hash([question, sorted(exceptions)])


def scope_parts(question: Mapping[str, Any], exceptions: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The same as `scope_hash`, part by part."""
    return {name: _hash(value)[:8] for name, value in {**question, EXCEPTIONS: sorted(exceptions)}.items()}


def changed_parts(
    last_good: LastGoodDocument | None,
    asked: Sequence[QuestionDocument],
    scope: str,
    parts: Mapping[str, str],
) -> tuple[str, ...]:
    """Which parts of the question are others than before; none where an older record does not tell."""
    found: set[str] = set()
    for one in (*((last_good,) if last_good is not None else ()), *asked):
        if one["scope_hash"] == scope:
            continue
        before = one.get("scope_parts")
        if before is None:
            return ()
        found |= {name for name in parts.keys() | before.keys() if parts.get(name) != before.get(name)}
    return tuple(sorted(found))


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
