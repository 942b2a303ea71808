"""MTA-STS policies of domains: set up, changed, looked at from outside, and ended in the order that senders need.

A policy that is enforced and leaves out a server of the domain's MX records makes senders hold mail back. Such a policy
is refused outright, without a way to force it: to name the server in `extra_mx` costs nothing, so nobody has a reason
to enforce one that does not. The records are looked at just before, since they may have changed since the daily look.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from postern_api.domains.looking import looked_at
from postern_api.domains.mta_sts.schemas import MtaStsInput
from postern_api.domains.mta_sts.store import PolicyStore
from postern_api.domains.rules import mta_sts as rules
from postern_api.domains.service import Domains
from postern_api.domains.store import DomainStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.problems import Problem, conflict, invalid, not_found
from postern_api.tenancy import Tenant
from postern_common.documents import DomainState
from postern_common.events import SettingsChanged
from postern_common.mongo import Session
from postern_common.mta_sts import Policy, is_destination, parse_pattern

Document = dict[str, Any]
RESOURCE: Final = "mta_sts_policy"
LOOK_AFTER: Final = timedelta(seconds=3)  # until all policy servers have the new text


class Policies:
    """The hosted policies of one customer's domains. Documents are those of the domains."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._domains = Domains(tenant)
        self._domain_store = DomainStore(tenant.resources.mongo, tenant.scope)
        self._store = PolicyStore(tenant.resources.mongo, tenant.scope)

    async def get(self, name: str) -> Document:
        """The domain of that name, which has a policy."""
        domain = await self._domains.get(name)
        if domain.get("mta_sts") is None:
            raise not_found()
        return domain

    async def check(self, name: str) -> Document:
        """Have the policy and the mail records looked at now, and wait for the answer."""
        return await self._look(await self.get(name))

    async def _look(self, domain: Document) -> Document:
        return await looked_at(
            self._tenant,
            lambda at: self._domain_store.request_mail_look(domain["_id"], at, is_awaited=True),
            lambda: self._domains.get(domain["name"]),
            lambda found: found["mx"] and found["mx"]["checked_at"],
        )

    async def put(self, name: str, body: MtaStsInput, condition: IfMatch | None) -> tuple[Document, bool]:
        """Change the policy, or set up the first one; and whether it is the first."""
        if condition is None:
            return await self._put(name, body, None)
        return await condition.settle(lambda: self._put(name, body, condition))

    async def _put(self, name: str, body: MtaStsInput, condition: IfMatch | None) -> tuple[Document, bool]:
        domain = await self._domains.get(name)
        present = domain.get("mta_sts")
        _check_condition(present, condition)
        if domain["state"] != DomainState.VERIFIED:
            raise conflict("domain-not-verified", "A policy is hosted for a verified domain only.")
        extra = _patterns(body.extra_mx)
        report_to = _destinations(body.report_to)
        settings = self._resources.settings
        if present is None and not settings.api_policy_host:
            raise conflict("mta-sts-not-offered", "This installation hosts no MTA-STS policies.")
        policy = rules.policy_for(body.mode, body.max_age, settings.api_own_mx_hosts, extra)
        if not policy.mx and policy.mode != "none":
            raise conflict("mta-sts-not-offered", "This installation names no mail servers that a policy could name.")
        if policy.mode == "enforce":
            await self._check_covers(domain, policy)
        return await self._keep(domain, policy, extra, report_to), present is None

    async def _check_covers(self, domain: Document, policy: Policy) -> None:
        """Refuse a policy under which senders would hold mail back."""
        if not rules.is_fresh(domain["mx"], await self._resources.database_now()):
            domain = await self._look(domain)
        hosts = rules.live_hosts(domain["name"], domain["mx"])
        if hosts is None:
            message = "The domain's name servers could not tell its MX records just now, so nobody knows what to cover."
            raise conflict("mx-unknown", message, pointer="/mode")
        left_out = policy.leaves_out(hosts)
        if left_out:
            message = (
                f"MX records of the domain name {', '.join(left_out)}, which the policy leaves out: senders would hold "
                "mail back. Name these servers in extra_mx, or remove their MX records first."
            )
            raise conflict("mx-not-covered", message, pointer="/extra_mx", hosts=list(left_out))

    async def _keep(self, domain: Document, policy: Policy, extra: list[str], report_to: list[str]) -> Document:
        present = domain.get("mta_sts")
        now = await self._resources.database_now()
        wanted = {
            "mode": policy.mode,
            "max_age": policy.max_age,
            "mx": list(policy.mx),
            "extra_mx": extra,
            "report_to": report_to,
        }
        if present is not None and wanted.items() <= present.items():
            return domain
        document = _document(wanted, present, now)

        async def work(session: Session) -> Document:
            found = await self._store.put(domain["_id"], present and present["version"], document, session)
            if found is None:
                raise stale()
            await self._tell(found, "created" if present is None else "updated", session)
            return found

        kept = await self._resources.transact(work)
        await self._domain_store.request_mail_look(domain["_id"], now + LOOK_AFTER, is_awaited=False)
        return kept

    async def delete(self, name: str, condition: IfMatch) -> None:
        """Remove a policy that nobody holds any more."""
        return await condition.settle(lambda: self._delete(name, condition))

    async def _delete(self, name: str, condition: IfMatch) -> None:
        domain = await self.get(name)
        present = domain["mta_sts"]
        condition.check(present["version"])
        now = await self._resources.database_now()
        if not rules.is_removable(present, now):
            raise _in_force(present, now)

        async def work(session: Session) -> None:
            if not await self._store.remove(domain["_id"], present["version"], session):
                raise stale()
            await self._tell(domain, "deleted", session)

        await self._resources.transact(work)

    async def _tell(self, domain: Document, action: Any, session: Session) -> None:
        event = SettingsChanged(
            customer_id=self._tenant.customer_id, resource=RESOURCE, resource_id=domain["_id"], action=action
        )
        await self._resources.emit(session, event)


def _check_condition(present: Document | None, condition: IfMatch | None) -> None:
    if present is None:
        if condition is not None:
            condition.check_nothing()
    elif condition is None:
        raise Problem("precondition-required", "Send the ETag of what you have read in If-Match.", status=428)
    else:
        condition.check(present["version"])


def _patterns(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(parse_pattern(text, pointer=f"/extra_mx/{at}") for at, text in enumerate(texts)))


def _destinations(uris: list[str]) -> list[str]:
    for at, uri in enumerate(uris):
        if not is_destination(uri):
            message = (
                "A mailto: URI with one address, or an https: URL, is needed; commas and semicolons as %2C and %3B."
            )
            raise invalid(message, f"/report_to/{at}")
    return list(dict.fromkeys(uris))


def _document(wanted: Document, present: Document | None, now: datetime) -> Document:
    return {
        **wanted,
        "binding_until": rules.binding_until(present, now),
        "check": None if present is None else present["check"],
        "created_at": now if present is None else present["created_at"],
        "updated_at": now,
        "version": 1 if present is None else present["version"] + 1,
    }


def _in_force(present: Document, now: datetime) -> Problem:
    if present["mode"] != "none":
        message = "Senders may hold the policy. Set mode none first, so that they learn that it ends (RFC 8461 8.3)."
        return conflict("mta-sts-in-force", message)
    until = rules.binding_until(present, now)
    at = until.isoformat(timespec="seconds").replace("+00:00", "Z") if until else None
    message = f"Senders may hold an earlier policy until {at}. Leave this one in place until then (RFC 8461 8.3)."
    return conflict("mta-sts-in-force", message, possible_at=at)
