"""Looks at a domain in the DNS and gathers what the rules judge."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from postern_common.mta_sts import POLICY_LABEL, RECORD_LABEL, REPORTS_LABEL, WELL_KNOWN
from postern_dns.rules import mta_sts, mx, ownership, spf
from postern_dns.rules.answers import Look
from postern_dns.rules.mta_sts import Fetched
from postern_dns.rules.mx import MailVerdict
from postern_dns.rules.ownership import Evidence
from postern_dns.rules.spf_budget import Question

SPF_AT_ONCE: Final = 8


class Lookup(Protocol):
    """What asks the name servers; in the service `adapters.resolver.Resolver`."""

    async def look(self, name: str, kind: str, *, follow: bool = True) -> Look:
        """One name asked of every server of its zone."""


# Asks the host at these addresses for a path over HTTPS.
Fetch = Callable[[str, str, Sequence[str]], Awaitable[Fetched]]


async def _fetch_nothing(_host: str, _path: str, _addresses: Sequence[str]) -> Fetched:
    return Fetched(failure="nothing is fetched here")


class Inspector:
    """Asks about a domain's ownership record, and about its mail records."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        own_mx_hosts: Sequence[str] = (),
        spf_include: str = "",
        spf_seconds: float = 12.0,
        fetch: Fetch | None = None,
    ) -> None:
        self._lookup = lookup
        self._fetch = fetch or _fetch_nothing
        self._own_mx_hosts = tuple(own_mx_hosts)
        self._spf_include = spf_include
        self._spf_seconds = spf_seconds

    async def ownership(self, domain: str, code: str) -> Evidence:
        """What both names show, and where neither has the record, what the doubled names show."""
        apex, label = await asyncio.gather(
            self._lookup.look(domain, "TXT", follow=False),
            self._lookup.look(ownership.challenge_name(domain), "TXT"),
        )
        evidence = Evidence(domain, apex, label)
        if not (apex.is_definite and label.is_definite) or not ownership.needs_doubled_look(evidence, code):
            return evidence
        names = ownership.doubled_names(domain, apex.zone)
        doubled = await asyncio.gather(*(self._lookup.look(name, "TXT", follow=False) for name in names))
        return Evidence(domain, apex, label, tuple(doubled))

    async def mail_records(self, domain: str) -> tuple[MailVerdict, MailVerdict]:
        """The state of the domain's MX and SPF records."""
        exchanges, texts = await asyncio.gather(self._lookup.look(domain, "MX"), self._lookup.look(domain, "TXT"))
        answers = await self._spf_answers(texts)
        return mx.judge(exchanges, self._own_mx_hosts), spf.judge(texts, self._spf_include, answers)

    async def hosted_policy(self, domain: str) -> mta_sts.Evidence:
        """What a sender finds that looks for the domain's MTA-STS policy."""
        host = f"{POLICY_LABEL}.{domain}"
        record, reports, *addresses = await asyncio.gather(
            self._lookup.look(f"{RECORD_LABEL}.{domain}", "TXT"),
            self._lookup.look(f"{REPORTS_LABEL}.{domain}", "TXT"),
            *(self._lookup.look(host, kind) for kind in ("A", "AAAA")),
        )
        found = mta_sts.addresses_of(addresses)
        fetched = await self._fetch(host, WELL_KNOWN, found) if found else None
        return mta_sts.Evidence(host, record, reports, tuple(addresses), fetched)

    async def _spf_answers(self, texts: Look) -> dict[Question, Look]:
        """All that an SPF record leads to, or what of it was told in time."""
        answers: dict[Question, Look] = {}
        at_once = asyncio.Semaphore(SPF_AT_ONCE)

        async def ask(question: Question) -> None:
            async with at_once:
                answers[question] = await self._lookup.look(question.name, question.kind)

        try:
            async with asyncio.timeout(self._spf_seconds):
                while asked := spf.questions(texts, answers):
                    await asyncio.gather(*(ask(question) for question in asked))
        except TimeoutError:
            pass  # what is still open cannot be told, and the rule says so
        return answers
