"""Writes down what a look at a domain showed: the state, the addresses it decides and the events, in one transaction.

Two claimants may prove one domain at the same time: the unique index over verified names lets one of them through, the
other one stays as it is with the detail `verified_elsewhere` (CASES 34). Nothing here takes a verified domain away.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from prometheus_client import Counter

from postern_common import outbox
from postern_common.documents import DomainCheck, DomainState
from postern_common.events import (
    DomainTransferRequested,
    DomainVerificationExpired,
    DomainVerified,
    Event,
    SetupStateChanged,
    UserDeleted,
    UserUpdated,
)
from postern_common.mongo import Document, DuplicateKey, Session
from postern_dns.rules import mta_sts, ownership, transition
from postern_dns.rules.mail_fields import MailFindings, mail_fields
from postern_dns.rules.mx import MailVerdict
from postern_dns.rules.ownership import Evidence, Verdict
from postern_dns.store import VERIFIED_ELSEWHERE, DomainStore

SERVICE: Final = "dns-verifier"
REMOVAL_BATCH: Final = 200
RIVAL_ATTEMPTS: Final = 5
TAKEN_REASON: Final = "another customer verified the domain"
_ELSEWHERE_NOTE: Final = (
    " The domain is verified for another customer, so it stays pending here; where that customer's proof is gone, an "
    "operator decides."
)

log = structlog.get_logger(__name__)
# outcome: match | mismatch | absent | cannot_tell | lost (removed, restarted or taken over while it was looked at)
_CHECKS = Counter("postern_dns_checks_total", "Looks at ownership records, by outcome.", ["outcome"])
_STATES = Counter("postern_dns_domains_decided_total", "Domains that became verified or expired.", ["state"])


class Settlement:
    """Turns verdicts into stored states and events."""

    def __init__(self, store: DomainStore) -> None:
        self._store = store
        self._mongo = store.mongo

    async def ownership(self, claim: Document, started: datetime, evidence: Evidence) -> DomainState | None:
        """Write down a look that began at `started`; the state that followed, None if the claim was lost."""
        now = await self._mongo.now()
        verdict = ownership.judge(evidence, claim["code"], now=now)
        if verdict.outcome == "match" and claim["state"] != DomainState.VERIFIED.value:
            await self._make_room(claim)
        state = await self._write_ownership(claim, started, evidence, verdict)
        _CHECKS.labels(outcome=verdict.outcome if state else "lost").inc()
        if state is not None and state.value != claim["state"]:
            _STATES.labels(state=state.value).inc()
        log.info("domain_checked", reason=verdict.reason, state=state, domain_id=claim["_id"])
        return state

    async def _write_ownership(
        self, claim: Document, started: datetime, evidence: Evidence, verdict: Verdict
    ) -> DomainState | None:
        for _ in range(RIVAL_ATTEMPTS):
            try:
                return await self._mongo.transact(
                    lambda session: self._decide(claim, started, evidence, verdict, session)
                )
            except DuplicateKey:
                # Somebody else verified the name between our read and our write; the next turn sees the holder.
                log.info("domain_verified_by_rival", domain_id=claim["_id"])
        return None

    async def _decide(
        self, claim: Document, started: datetime, evidence: Evidence, verdict: Verdict, session: Session
    ) -> DomainState | None:
        domain = await self._store.claimed(claim, session)
        if domain is None:
            return None
        now = await self._mongo.now()
        holder = await self._store.holder(claim, session)
        change = transition.decide(
            _standing(domain, started),
            verdict.outcome,
            now,
            is_held_elsewhere=holder is not None,
            chance=random.random(),
            cached_for=max(filter(None, (evidence.apex.cached_for, evidence.label.cached_for)), default=None),
        )
        detail = VERIFIED_ELSEWHERE if holder is not None else None
        is_change = change.state.value != domain["state"] or detail != domain["detail"]
        fields: Document = {
            "state": change.state.value,
            "detail": detail,
            "next_check_at": change.next_check_at,
            "last_check": _last_check(verdict, started, is_held_elsewhere=holder is not None),
            "updated_at": now if is_change else domain["updated_at"],
        }
        news = _news(domain, change, now)
        if holder is not None and _is_transfer_due(domain, holder, evidence, verdict, now):
            news.fields["transfer_requested_at"] = now
            news.events.append(_transfer_event(domain, holder))
        await self._store.write(claim, fields | news.fields, session, is_change=is_change, attempts=1)
        if news.is_verified:
            await self._store.adopt_addresses(domain, session)
            await self._store.mark_other_claims(domain, now, session)
            while await self._remove_foreign(domain, session) == REMOVAL_BATCH:
                pass
        await self._append(news.events, session)
        return change.state

    # -- other customers' prepared addresses (SPEC U4) ----------------------------------------------------------------

    async def _make_room(self, claim: Document) -> None:
        """Remove others' prepared addresses in batches until one is left, which goes with the step that verifies.

        So that transaction stays small, and where a rival proves the domain at the same time and gets it, nothing of
        the rival is removed, save in the rare case of more than a batch. After a crash the next look goes on.
        """
        while await self._mongo.transact(lambda session: self._make_room_once(claim, session)):
            pass

    async def _make_room_once(self, claim: Document, session: Session) -> bool:
        is_ours = await self._store.claimed(claim, session) is not None
        if not is_ours or await self._store.holder(claim, session) is not None:
            return False
        if len(await self._store.foreign_addresses(claim, REMOVAL_BATCH + 1, session)) <= REMOVAL_BATCH:
            return False
        await self._remove_foreign(claim, session)
        return True

    async def _remove_foreign(self, domain: Document, session: Session) -> int:
        found = await self._store.foreign_addresses(domain, REMOVAL_BATCH, session)
        now = await self._mongo.now()
        users = {entry["user_id"]: entry["customer_id"] for entry in found}
        removed = {entry["user_id"] for entry in found if entry["is_primary"]}
        aliases: dict[str, list[str]] = defaultdict(list)
        for entry in found:
            aliases[entry["user_id"]].append(entry["key"])
        for user_id, customer_id in users.items():
            event: Event
            if user_id in removed:
                await self._store.remove_user(user_id, session)
                event = UserDeleted(customer_id=customer_id, user_id=user_id, reason=TAKEN_REASON)
            else:
                await self._store.remove_aliases(user_id, aliases[user_id], now, session)
                event = UserUpdated(customer_id=customer_id, user_id=user_id, fields=["aliases"])
            await self._append([event], session)
        return len(found)

    # -- mail records -------------------------------------------------------------------------------------------------

    async def mail_records(
        self,
        claim: Document,
        started: datetime,
        mx: MailVerdict,
        spf: MailVerdict,
        hosted: mta_sts.Verdict | None = None,
    ) -> bool:
        """Write down the state of MX, SPF and the hosted MTA-STS policy, with an event for each that changed.

        False if the claim was lost.
        """
        found = MailFindings(started, mx, spf, hosted)
        return await self._mongo.transact(lambda session: self._write_mail(claim, found, session))

    async def _write_mail(self, claim: Document, found: MailFindings, session: Session) -> bool:
        domain = await self._store.claimed(claim, session)
        if domain is None:
            return False
        fields, states = mail_fields(claim, domain, found, chance=random.random())
        events: list[Event] = [_setup_event(domain, step, state) for step, state in states]
        await self._store.write(claim, fields, session, is_change=False)
        # A user may have been prepared in the very moment the domain was verified; that address becomes live here.
        await self._store.adopt_addresses(domain, session)
        await self._append(events, session)
        return True

    async def _append(self, events: list[Event], session: Session) -> None:
        for event in events:
            await outbox.append(self._mongo, session, event, service=SERVICE)


@dataclass(slots=True)
class _News:
    """What follows from a change of state: further fields and events."""

    fields: Document = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    is_verified: bool = False


def _news(domain: Document, change: transition.Change, now: datetime) -> _News:
    news = _News()
    if change.warn:
        news.fields["expiry_warned_at"] = now
        news.events.append(_setup_event(domain, "domains", "expiring"))
    if change.state.value == domain["state"]:
        return news
    if change.state is DomainState.EXPIRED:
        news.events.append(DomainVerificationExpired(**_about(domain), expired_at=now))
    if change.state is DomainState.VERIFIED:
        news.is_verified = True
        news.fields |= {"verified_at": now, "mail_dns_next_at": now}
        news.events.append(DomainVerified(**_about(domain), verified_at=now))
    return news


def _standing(domain: Document, started: datetime) -> transition.Standing:
    return transition.Standing(
        state=DomainState(domain["state"]),
        pending_since=domain["pending_since"],
        deadline=domain["deadline"],
        requested_at=domain["requested_at"],
        warned_at=domain["expiry_warned_at"],
        started=started,
    )


def _last_check(verdict: Verdict, started: datetime, *, is_held_elsewhere: bool) -> DomainCheck:
    return {
        "at": started,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "found": list(verdict.found),
        "servers": list(verdict.servers),
        "explanation": verdict.explanation + (_ELSEWHERE_NOTE if is_held_elsewhere else ""),
    }


def _is_transfer_due(domain: Document, holder: Document, evidence: Evidence, verdict: Verdict, now: datetime) -> bool:
    """True if the claimant's code is published and the holder's is surely not, for the first time (SPEC D4)."""
    if verdict.outcome != "match" or domain.get("transfer_requested_at") is not None:
        return False
    return ownership.judge(evidence, holder["code"], now=now).outcome in {"absent", "mismatch"}


def _about(domain: Document) -> dict[str, str]:
    return {"customer_id": domain["customer_id"], "domain_id": domain["_id"], "name": domain["name"]}


def _transfer_event(domain: Document, holder: Document) -> DomainTransferRequested:
    return DomainTransferRequested(**_about(holder), claimant_customer_id=domain["customer_id"])


def _setup_event(domain: Document, step: str, state: str) -> SetupStateChanged:
    return SetupStateChanged(customer_id=domain["customer_id"], step=step, state=state, detail=domain["name"])
