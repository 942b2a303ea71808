"""Plans the reports of each day, and sends those that are due to whoever asked for them (RFC 8460).

Due times and claims stand in the documents and are compared with the database's time, so any number of processes share
the work, and each report is sent once. What was handed over is written down before the next hand-over: a process that
dies in between sends one report again at most, and that is the same to the last octet. A mail and the note of it are
one transaction.
"""

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any, Final, Never, Protocol
from urllib.parse import urlsplit

import structlog
from prometheus_client import Counter

from postern_common.addresses import parse_address
from postern_common.errors import Temporary
from postern_common.mongo import Document
from postern_common.mta_sts import REPORTS_LABEL, mail_address, report_destinations
from postern_common.own_mail import OwnMail
from postern_common.polling import poll
from postern_dns.adapters.https import Https, Request
from postern_dns.reports.store import BATCH, DONE, WAITING, ReportStore
from postern_dns.rules import report_schedule as schedule
from postern_dns.rules.answers import Look
from postern_dns.rules.mta_sts import Fetched, addresses_of
from postern_dns.rules.tls_report import MEDIA_TYPE, Report, Reporter, ReportMail

SERVICE: Final = "dns-verifier"
PLAN_SECONDS: Final = 300.0
SEND_SECONDS: Final = 20.0
LONGEST_SECONDS: Final = 300.0
LEASE: Final = timedelta(minutes=10)  # five destinations that take their time, with their look-ups
LARGEST_ANSWER: Final = 64 * 1024
_COME_AGAIN: Final = frozenset({408, 425, 429})

log = structlog.get_logger(__name__)
_REPORTS = Counter(
    "postern_dns_tls_reports_total", "Reports about TLS that are done.", ["outcome"]
)  # sent | not_wanted | given_up
_SENDINGS = Counter(
    "postern_dns_tls_report_sendings_total", "Hand-overs of reports about TLS.", ["way", "outcome"]
)  # https | mail; sent | failed | open


class Lookup(Protocol):
    """What asks the name servers; in the service `adapters.resolver.Resolver`."""

    async def look(self, name: str, kind: str, *, follow: bool = True) -> Look:
        """One name asked of every server of its zone."""


class Planner:
    """Makes the reports of the day that has ended, once there is one for each domain that results tell of."""

    def __init__(self, store: ReportStore) -> None:
        self._store = store

    async def run(self) -> Never:
        """Plan until cancelled."""
        await poll(self.plan, every=PLAN_SECONDS, longest=LONGEST_SECONDS * 2, waits="report_plans_wait")

    async def plan(self) -> None:
        """Plan what is to be planned now. Several processes at it do no harm: a report that is there stays."""
        now = await self._store.mongo.now()
        day = schedule.day_to_report(now)
        if day is None or await self._store.is_planned(day):
            return
        batch: list[Document] = []
        async for domain in self._store.domains_of(day):
            batch.append(_new_report(day, domain, now))
            if len(batch) == BATCH:
                await self._store.add(batch)
                batch = []
        if batch:
            await self._store.add(batch)
        await self._store.mark_planned(day, now + schedule.KEPT)
        log.info("reports_planned", day=day)


def _new_report(day: str, domain: str, now: datetime) -> Document:
    due_at = schedule.first_attempt(now, chance=random.random())
    return {
        "_id": f"{day}|{domain}",
        "day": day,
        "policy_domain": domain,
        "state": WAITING,
        "outcome": None,
        "due_at": due_at,
        "give_up_at": due_at + schedule.TRIED,
        "attempts": 0,
        "destinations": [],
        "lease_owner": None,
        "lease_until": None,
        "expires_at": now + schedule.KEPT,
    }


class Sender:
    """Sends reports that are due."""

    def __init__(self, store: ReportStore, lookup: Lookup, https: Https, reporter: Reporter) -> None:
        self._store = store
        self._lookup = lookup
        self._https = https
        self._reporter = reporter
        self._under_way = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._draining = False

    async def run(self) -> Never:
        """Send until cancelled; several may run at a time."""
        await poll(self.send_due, every=SEND_SECONDS, longest=LONGEST_SECONDS, waits="reports_wait")

    async def drain(self) -> None:
        """Begin no further report, and wait for those under way."""
        self._draining = True
        await self._is_idle.wait()

    async def send_due(self) -> None:
        """Send what is due, one report after the other."""
        while not self._draining:
            now = await self._store.mongo.now()
            claim = await self._store.claim(now, LEASE)
            if claim is None:
                return
            self._under_way += 1
            self._is_idle.clear()
            try:
                await self._send(claim)
            except Temporary:
                raise
            except Exception:  # the loop's edge: a bug with one report must not stop the others; its lease is its pause
                log.exception("report_failed", report=claim["_id"])
            finally:
                self._under_way -= 1
                if not self._under_way:
                    self._is_idle.set()

    async def _send(self, claim: Document) -> None:
        destinations = claim["destinations"] or await self._wanted_at(claim["policy_domain"])
        if destinations is None:
            await self._try_again(claim, [])
            return
        results = await self._store.results(claim["day"], claim["policy_domain"])
        if not destinations or not results:
            await self._finish(claim, "not_wanted", destinations)
            return
        report = Report(self._reporter, claim["day"], claim["policy_domain"], results)
        for one in destinations:
            if one["state"] == "open" and not await self._send_to(claim, report, destinations, one):
                log.warning("report_claim_lost", report=claim["_id"])
                return
        if any(one["state"] == "open" for one in destinations):
            await self._try_again(claim, destinations)
        else:
            await self._finish(claim, _outcome(destinations), destinations)

    async def _wanted_at(self, domain: str) -> list[Document] | None:
        """Where the domain wants its reports, none where it wants none; None where nobody can tell now."""
        look = await self._lookup.look(f"{REPORTS_LABEL}.{domain}", "TXT")
        if not look.is_definite:
            return None
        return [{"uri": uri, "state": "open", "detail": ""} for uri in report_destinations(look.agreed())]

    async def _send_to(self, claim: Document, report: Report, destinations: list[Document], one: Document) -> bool:
        """Hand the report over at one of its destinations, and write down what came of it; False if it is lost."""
        address = mail_address(one["uri"])
        if address is not None:
            one |= {"state": "sent", "detail": "handed over to the queue"}
            mail = _mail(report, address, await self._store.mongo.now())
            is_ours = await self._store.hand_over(claim, mail, {"destinations": destinations})
        else:
            state, detail = _judged(await self._post(one["uri"], report))
            one |= {"state": state, "detail": detail}
            is_ours = await self._store.write(claim, {"destinations": destinations})
        _SENDINGS.labels("mail" if address else "https", one["state"]).inc()
        return is_ours

    async def _post(self, uri: str, report: Report) -> Fetched:
        """RFC 8460 5.4."""
        parts = urlsplit(uri)
        host = parts.hostname or ""
        if parts.port not in (None, self._https.port):
            return Fetched(failure=f"reports go to port {self._https.port} alone")
        looks = [await self._lookup.look(host, kind) for kind in ("A", "AAAA")]
        addresses = addresses_of(looks)
        if not addresses:
            return Fetched(failure="its name has no address", is_passing=True)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = Request("POST", host, target, {"Content-Type": MEDIA_TYPE}, report.file())
        return await self._https.ask(request, addresses, largest=LARGEST_ANSWER)

    async def _try_again(self, claim: Document, destinations: list[Document]) -> None:
        now = await self._store.mongo.now()
        due_at = schedule.next_attempt(now, claim["attempts"], claim["give_up_at"], chance=random.random())
        if due_at is None:
            await self._finish(claim, _outcome(destinations), destinations)
        else:
            await self._store.release(claim, {"due_at": due_at})

    async def _finish(self, claim: Document, outcome: str, destinations: list[Document]) -> None:
        fields: dict[str, Any] = {"state": DONE, "outcome": outcome, "destinations": destinations}
        if await self._store.release(claim, fields):
            _REPORTS.labels(outcome).inc()
            log.info("report_done", report=claim["_id"], outcome=outcome, attempts=claim["attempts"])


def _outcome(destinations: list[Document]) -> str:
    return "sent" if any(one["state"] == "sent" for one in destinations) else "given_up"


def _judged(answer: Fetched) -> tuple[str, str]:
    """What came of a POST: sent, failed for good, or open for another attempt."""
    if answer.failure is not None and not answer.status:
        return ("open" if answer.is_passing else "failed"), answer.failure
    if 200 <= answer.status < 300:
        return "sent", f"status {answer.status}"
    is_passing = answer.status >= 500 or answer.status in _COME_AGAIN
    return ("open" if is_passing else "failed"), f"status {answer.status}"


def _mail(report: Report, address: str, now: datetime) -> OwnMail:
    carried = ReportMail(report, address, now)
    return OwnMail(
        recipient=parse_address(address),
        subject=carried.subject,
        message_id=carried.message_id,
        body=carried.message(),
        lifetime=schedule.TRIED,
        service=SERVICE,
        why=f"a report about TLS to {report.policy_domain}",
        tls_waived=True,  # RFC 8460 3: what a report tells of must not hold it up
    )
