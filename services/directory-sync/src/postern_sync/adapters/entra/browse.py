"""A look at a tenant's users and groups, for choosing those that are to be left out (SPEC S12)."""

from collections.abc import Iterator
from typing import Any, Final

from postern_sync.adapters.entra.delta import objects_of
from postern_sync.adapters.entra.graph import HURRY, Graph, GraphFault, failed
from postern_sync.adapters.entra.listing import ADVANCED
from postern_sync.adapters.entra.tenant import Tenant
from postern_sync.rules import graph_mapping as mapping
from postern_sync.rules.entries import Entry

MAX_PAGE: Final = 999
_NAMES: Final = {
    "user": ("displayName", "givenName", "surname", "mail", "userPrincipalName"),
    "group": ("displayName", "mail"),
}
_PATHS: Final = {"user": "/users", "group": "/groups"}
_SELECT: Final = {"user": mapping.USER_SELECT, "group": mapping.GROUP_SELECT}
_LISTS: Final = "mailEnabled eq true"


async def browse(tenant: Tenant, query: dict[str, Any]) -> dict[str, Any]:
    """Entries whose names or addresses begin with the search, as the API shows them. Raises `SourceFailed`."""
    kind, search, limit = str(query["kind"]), str(query["search"] or ""), int(query["limit"])
    found: list[dict[str, Any]] = []
    is_whole = True
    async with tenant.graph(lambda: None, HURRY) as graph:
        try:
            for one in ("user", "group") if kind == "alias" else (kind,):
                is_whole = await _collect(graph, one, kind, search, limit, found) and is_whole
        except GraphFault as fault:
            raise failed(fault, refused="filter") from None
    found.sort(key=lambda item: (str(item["address"] or "").casefold(), item["name"]))
    return {"ok": True, "entries": found[:limit], "truncated": len(found) > limit or not is_whole}


async def _collect(
    graph: Graph, one: str, kind: str, search: str, limit: int, found: list[dict[str, Any]]
) -> bool:  # fmt: skip
    """Take what one question finds; whether that was all."""
    text = filter_of(one, kind, search)
    asked = {"filter": text} if text else {}
    address = graph.address(
        _PATHS[one],
        select=",".join(_SELECT[one]),
        top=str(min(limit + 1, MAX_PAGE)),
        count="true",
        **asked,
    )
    page = await graph.get(address, ADVANCED)
    make = mapping.user_entry if one == "user" else mapping.group_entry
    for properties in objects_of(page):
        found.extend(_items(make(properties["id"], properties, None, frozenset()), kind, search.casefold()))
    return "@odata.nextLink" not in page


def filter_of(one: str, kind: str, search: str) -> str:
    """A `$filter` for what begins with `search`; Graph knows no "contains" here. Quotes are doubled (OData 4.01)."""
    quoted = search.replace("'", "''")
    parts = [f"startswith({name}, '{quoted}')" for name in _NAMES[one]] if kind != "alias" else []
    parts.append(f"proxyAddresses/any(p:startswith(p, 'smtp:{quoted}'))")
    found = f"({' or '.join(parts)})" if search else ""
    if one == "group":
        return f"{_LISTS} and {found}" if found else _LISTS
    return found


def _items(entry: Entry, kind: str, search: str) -> Iterator[dict[str, Any]]:
    """What an entry adds to the answer."""
    if kind != "alias":
        yield _item(entry, kind, entry.primary.address if entry.primary else None)
        return
    for alias in entry.aliases:
        if alias.address.casefold().startswith(search):
            yield _item(entry, "alias", alias.address)


def _item(entry: Entry, kind: str, address: str | None) -> dict[str, Any]:
    return {
        "external_id": entry.id,
        "kind": kind,
        "name": entry.name,
        "address": address,
        "aliases": [alias.address for alias in entry.aliases],
    }
