"""A customer's directory set up, replaced, and switched off (SPEC S1, S14); whose it is to read is directory-sync's.

Changing the provider is told first and done on confirmation. Settings that were changed make plans that wait for an
approval stale; switching off or over ends a run that is under way.
"""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from postern_api.directory.runs.decisions import stop
from postern_api.directory.runs.store import RunStore
from postern_api.directory.settings import checks
from postern_api.directory.settings.credentials import Credentials, check_usable, without_secrets
from postern_api.directory.settings.schemas import DirectoryFields, DirectoryInput
from postern_api.directory.settings.store import DirectoryStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.problems import Problem, conflict, invalid, not_found
from postern_api.tenancy import Tenant
from postern_common.events import ProviderSwitched, SettingsChanged
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Session
from postern_common.netguard import NetGuard

Document = dict[str, Any]
NAMES: Final = {"ldap": "the LDAP directory", "entra": "Microsoft Entra ID"}
SWITCHED_OFF: Final = "synchronisation was switched off"
SWITCHED_OVER: Final = "the provider was changed"


class Directories:
    """The directory of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = DirectoryStore(tenant.resources.mongo, tenant.scope)
        self._runs = RunStore(tenant.resources.mongo, tenant.scope)
        self.credentials = Credentials(tenant.resources.secrets, tenant.customer_id)

    async def get(self) -> Document:
        """The settings."""
        found = await self._store.get()
        if found is None:
            raise not_found()
        return found

    async def waiting_run(self, directory: Document) -> str | None:
        """The run whose plan waits for a decision; none that settings or switching off have made pointless."""
        return await self._runs.waiting(directory["updated_at"]) if directory["enabled"] else None

    async def find(self) -> Document | None:
        """The settings, if there are any."""
        return await self._store.get()

    def part(self, body: DirectoryInput, provider: str, present: Document | None) -> Document | None:
        """A provider's settings as they would be stored; what is not sent stays as it is."""
        stored = None if present is None else present[provider]
        if provider not in body.model_fields_set:
            return stored
        if provider == "ldap":
            if body.ldap is None:
                return None
            found = checks.ldap_fields(body.ldap, NetGuard(self._resources.settings.allow_networks))
            return self.credentials.ldap(body.ldap, found, stored)
        if body.entra is None:
            return None
        return self.credentials.entra(body.entra, checks.entra_fields(body.entra), stored, self._resources.now())

    def parts(self, body: DirectoryInput, present: Document | None) -> Document:
        """Both providers' settings; that of the chosen one must be there."""
        found = {provider: self.part(body, provider, present) for provider in ("ldap", "entra")}
        chosen = found[body.provider]
        if chosen is None:
            raise invalid(f"Settings of {NAMES[body.provider]} are needed.", f"/{body.provider}")
        if body.enabled:
            check_usable(body.provider, chosen)
        return found

    async def put(self, body: DirectoryInput, condition: IfMatch | None, *, confirmed: bool) -> tuple[Document, bool]:
        """Replace the settings, or keep the first ones; and whether these are the first."""
        if condition is None:
            return await self._put(body, None, confirmed=confirmed)
        return await condition.settle(lambda: self._put(body, condition, confirmed=confirmed))

    async def _put(self, body: DirectoryInput, condition: IfMatch | None, *, confirmed: bool) -> tuple[Document, bool]:
        present = await self._store.get()
        if present is None:
            if condition is not None:
                condition.check_nothing()
            return await self._create(body, condition), True
        if condition is None:
            raise _unconditional()
        condition.check(present["version"])
        wanted = self._wanted(body, self.parts(body, present))
        wanted["frozen"] = _frozen(body, present)
        wanted["freeze_on_disable"] |= wanted["frozen"]
        is_switch = present["provider"] != body.provider
        if is_switch and not confirmed:
            raise await self._confirmation(present["provider"], body.provider)
        wanted["next_run_at"] = _next_run(wanted, present, wanted["updated_at"])

        async def work(session: Session) -> Document:
            found = await self._changed(present, wanted, session)
            if is_switch:
                event = ProviderSwitched(
                    customer_id=self._tenant.customer_id, from_source=present["provider"], to_source=body.provider
                )
                await self._resources.emit(session, event)
            if is_switch or not body.enabled:
                await self._stop_run(SWITCHED_OVER if is_switch else SWITCHED_OFF, session)
            return found

        return await self._resources.transact(work), False

    def _wanted(self, body: DirectoryInput, parts: Document) -> Document:
        return {
            **body.model_dump(include=set(DirectoryFields.model_fields)),
            "guard": body.guard.model_dump(),
            **parts,
            "frozen": _frozen(body, None),
            "updated_at": self._resources.now(),
        }

    async def _create(self, body: DirectoryInput, condition: IfMatch | None) -> Document:
        wanted = self._wanted(body, self.parts(body, None))
        document: Document = {
            "_id": new_id("dir"),
            **wanted,
            "created_at": wanted["updated_at"],
            "version": 1,
            "next_run_at": _next_run(wanted, None, wanted["updated_at"]),
            "last_run_id": None,
            "last_good": None,
            "delta": None,
            "warned_days": [],
        }

        async def work(session: Session) -> None:
            await self._store.insert(document, session)
            await self._store.set_interval(_interval(document), session)
            await self._resources.emit(session, self._event(document["_id"], "created"))

        try:
            await self._resources.transact(work)
        except DuplicateKey:  # somebody else was first
            raise (_unconditional() if condition is None else stale()) from None
        return document

    async def _changed(self, present: Document, changes: Document, session: Session) -> Document:
        found = await self._store.change(present, changes, session)
        if found is None:
            raise stale()
        await self._store.set_interval(_interval(found), session)
        await self._resources.emit(session, self._event(found["_id"], "updated"))
        return found

    async def _stop_run(self, reason: str, session: Session) -> None:
        run = await self._runs.under_way(session)
        if run is not None:
            await stop(self._runs, run, self._resources.now(), reason, session)

    async def _confirmation(self, before: str, after: str) -> Problem:
        users = await self._store.count_from(before)
        consequences = [
            {"code": "provider-disabled", "users": None, "message": f"{NAMES[before]} is no longer read."},
            {
                "code": "users-may-become-conflicts", "users": users,
                "message": f"{users} users came from {NAMES[before]}. Those that {NAMES[after]} does not have become "
                "conflicts.",
            },
            {
                "code": "next-run-held", "users": None,
                "message": "The next run adds and updates, and holds all removals until you approve them.",
            },
        ]  # fmt: skip
        message = (
            f"This changes the source of users from {NAMES[before]} to {NAMES[after]}. Send confirm=true to do it."
        )
        return conflict("confirmation-required", message, pointer="/provider", consequences=consequences)

    async def switch_off(self, condition: IfMatch) -> None:
        """End synchronisation and forget the secrets; all users stay."""
        await condition.settle(lambda: self._switch_off(condition))

    async def _switch_off(self, condition: IfMatch) -> None:
        present = await self.get()
        condition.check(present["version"])
        changes: Document = {
            "enabled": False,
            "frozen": present["freeze_on_disable"],
            "updated_at": self._resources.now(),
            **{part: without_secrets(part, present[part]) for part in ("ldap", "entra")},
        }

        async def work(session: Session) -> None:
            await self._changed(present, changes, session)
            await self._stop_run(SWITCHED_OFF, session)

        await self._resources.transact(work)

    def _event(self, directory_id: str, action: Literal["created", "updated"]) -> SettingsChanged:
        return SettingsChanged(
            customer_id=self._tenant.customer_id, resource="directory", resource_id=directory_id, action=action
        )


def _frozen(body: DirectoryInput, present: Document | None) -> bool:
    """Whether deletions wait; what waits goes on waiting, until it is said or the directory is read again."""
    if body.enabled:
        return False
    is_silent = "freeze_on_disable" not in body.model_fields_set
    return body.freeze_on_disable or (is_silent and present is not None and bool(present["frozen"]))


def _interval(document: Document) -> int | None:
    return document["interval_hours"] * 3600 if document["enabled"] else None


def _next_run(wanted: Document, present: Document | None, now: datetime) -> datetime | None:
    """When it runs next by itself: an interval from now at the latest, so that there is time for a preview."""
    if not wanted["enabled"]:
        return None
    latest: datetime = now + timedelta(hours=wanted["interval_hours"])
    if present is None or not present["enabled"] or present["next_run_at"] is None:
        return latest
    planned: datetime = present["next_run_at"]
    return min(planned, latest)


def _unconditional() -> Problem:
    message = "There are settings already. Send the ETag of what you have read in If-Match."
    return Problem("precondition-required", message, status=428)
