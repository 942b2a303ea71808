"""The test of an Entra tenant's settings: sign-in, each permission, the filter (SPEC E1)."""

import asyncio
import time
from datetime import datetime
from typing import Any, Final

from postern_sync.adapters.entra.graph import HURRY, Graph, GraphFault
from postern_sync.adapters.entra.listing import ADVANCED
from postern_sync.adapters.entra.tenant import Tenant
from postern_sync.adapters.entra.token import Tokens, granted
from postern_sync.rules.graph_words import PERMISSIONS, secret_end
from postern_sync.source import SourceFailed

Answer = dict[str, Any]
SOON_DAYS: Final = 30
_SLOW: Final = "Microsoft did not answer in time."
_MISSING: Final = "{0} ({1}) is missing: add it as an application permission, then grant admin consent."
_REFUSED: Final = "{0} ({1}) is granted, but Microsoft Graph refuses; consent may take some minutes to count."
_OK: Final = "{0} ({1})."


async def test(tenant: Tenant, now: datetime, *, seconds: float) -> Answer:
    """Go into the tenant step by step; the answer as the API shows it."""
    found = _Test(tenant, now)
    try:
        async with asyncio.timeout(seconds):
            await found.run()
    except TimeoutError:
        found.add("connect", _SLOW, found.began, ok=False)
    except SourceFailed as error:
        found.add(error.step, error.message, found.began, ok=False)
    return found.answer()


class _Test:
    """One test, and what it found so far."""

    def __init__(self, tenant: Tenant, now: datetime) -> None:
        self._tenant = tenant
        self._now = now
        self._steps: list[Answer] = []
        self._warnings: list[str] = []
        self._found: dict[str, int] | None = None
        self.began = time.monotonic()

    def add(self, step: str, detail: str, began: float, *, ok: bool) -> None:
        """Note a step's end."""
        spent = round((time.monotonic() - began) * 1000)
        self._steps.append({"step": step, "ok": ok, "detail": detail, "milliseconds": spent})

    def answer(self) -> Answer:
        """What came of it."""
        return {
            "ok": all(step["ok"] for step in self._steps),
            "steps": self._steps,
            "found": self._found,
            "certificate": None,
            "warnings": self._warnings,
        }

    async def run(self) -> None:
        """Sign in, then all that can be seen at once."""
        tokens = self._tenant.tokens()
        try:
            roles = await self._sign_in(tokens)
        finally:
            tokens.close()
        async with self._tenant.graph(lambda: None, HURRY) as graph:
            group_id = None
            for permission, address in (
                ("Directory.Read.All", graph.address("/directoryRoles", select="id")),
                ("User.Read.All", graph.address("/users", select="id,accountEnabled,proxyAddresses", top="1")),
                ("Group.Read.All", graph.address("/groups", select="id", top="1")),
            ):
                value = await self._permission(graph, permission, address, roles)
                if permission == "Group.Read.All":
                    group_id = next((str(one["id"]) for one in value if isinstance(one.get("id"), str)), None)
            members = graph.address(f"/groups/{group_id}/members", select="id", top="1") if group_id else None
            await self._permission(graph, "GroupMember.Read.All", members, roles)
            if all(step["ok"] for step in self._steps):
                await self._filter(graph)
                await self._secret(graph)

    async def _sign_in(self, tokens: Tokens) -> frozenset[str] | None:
        self.began = time.monotonic()
        token = await tokens.get()
        self.add("token", "Signed in.", self.began, ok=True)
        return granted(token)

    async def _permission(
        self, graph: Graph, name: str, address: str | None, roles: frozenset[str] | None
    ) -> list[dict[str, Any]]:
        """Whether what a permission is for can be done, and whether the token has it; what was seen."""
        self.began = began = time.monotonic()
        is_named = roles is None or name in roles
        found: list[dict[str, Any]] = []
        is_refused = False
        try:
            value = (await graph.get(address)).get("value") if address is not None else []
            found = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
        except GraphFault as fault:
            if fault.kind not in {"permission", "not_found"}:
                raise SourceFailed("connect", fault.message) from None
            is_refused = fault.kind == "permission"
        is_granted = roles is not None and name in roles
        text = _REFUSED if is_refused and is_granted else _OK if is_named and not is_refused else _MISSING
        self.add("permission", text.format(name, PERMISSIONS[name]), began, ok=is_named and not is_refused)
        return found

    async def _filter(self, graph: Graph) -> None:
        self.began = began = time.monotonic()
        text = self._tenant.entra["user_filter"]
        asked = {"filter": text} if text else {}
        address = graph.address("/users", select="id", top="1", count="true", **asked)
        groups = graph.address("/groups", select="id", top="1", count="true", filter="mailEnabled eq true")
        try:
            users = (await graph.get(address, ADVANCED)).get("@odata.count")
            lists = (await graph.get(groups, ADVANCED)).get("@odata.count")
        except GraphFault as fault:
            self.add("filter", fault.message, began, ok=False)
            return
        if isinstance(users, int) and isinstance(lists, int):
            self._found = {"users": users, "groups": lists}
            self.add("filter", f"{users} users and {lists} groups fit.", began, ok=True)
            if not users:
                self._warnings.append("The filter fits nobody." if text else "There are no users.")

    async def _secret(self, graph: Graph) -> None:
        """Warn where the secret ends soon, if the application may see that."""
        secret, client_id = self._tenant.credential.secret, self._tenant.entra["client_id"]
        if secret is None or self._tenant.credential.certificate is not None:
            return
        try:
            found = await graph.get(graph.address(f"/applications(appId='{client_id}')", select="passwordCredentials"))
        except GraphFault:
            return
        ends_at = secret_end(found.get("passwordCredentials"), secret, self._now)
        if ends_at is not None and (ends_at - self._now).days < SOON_DAYS:
            self._warnings.append(f"The client secret ends in {(ends_at - self._now).days} days.")
