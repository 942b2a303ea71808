"""Reads users through the customer's `$filter`, and makes sure of those who are missing (BEHAVIOURS 3.8).

The filtered list comes from an index that lags behind: who is missing from it is asked for by id before that counts.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from postern_sync.adapters.entra.beat import Beat
from postern_sync.adapters.entra.delta import pages_of, plain
from postern_sync.adapters.entra.graph import Graph, GraphFault, Json, fault_of, retry_after
from postern_sync.mirror.overlay import Overlay
from postern_sync.mirror.store import Mirrored
from postern_sync.rules import graph_mapping as mapping
from postern_sync.rules.graph_rounds import USER, has_left_filter

ADVANCED: Final = {"ConsistencyLevel": "eventual"}
PAGE: Final = "999"
ASKED_AT_ONCE: Final = 20  # Graph's limit for a $batch
_SELECT: Final = ",".join(mapping.USER_SELECT)
_BUSY: Final = frozenset({429, 500, 502, 503, 504})


class Listing:
    """Reads the filtered users of one tenant."""

    def __init__(self, graph: Graph, overlay: Overlay, beat: Beat, user_filter: str, now: datetime) -> None:
        self._graph = graph
        self._overlay = overlay
        self._beat = beat
        self._filter = user_filter
        self._now = now
        self.read = 0

    async def whole(self, *, is_same_question: bool) -> None:
        """Read the list. Under another question than before who is missing need not be asked for: all removals of
        such a run wait for an approval (SPEC S16).
        """
        address = self._graph.address("/users", filter=self._filter, count="true", select=_SELECT, top=PAGE)
        async for page in pages_of(self._graph, address, ADVANCED):
            known = await self._overlay.find([USER + one["id"] for one in page])
            await self._overlay.put(_listed(known.get(USER + one["id"]), one) for one in page)
            self.read += len(page)
            self._beat.tell("users", self.read)
        if is_same_question:
            await self._confirm()
        self._overlay.sweep(USER)

    async def _confirm(self) -> None:
        """Ask for those whom the list has no more."""
        async for missing in self._overlay.unseen(USER):
            # Who is known to be gone or out is kept as that, and asked for no more.
            await self._overlay.put(one for one in missing if not _is_in(one))
            asked = [one for one in missing if _is_in(one)]
            for start in range(0, len(asked), ASKED_AT_ONCE):
                part = asked[start : start + ASKED_AT_ONCE]
                found = await self._ask([one.external_id.removeprefix(USER) for one in part])
                await self._overlay.put(
                    self._still_there(one, found[key]) for one in part if (key := _id(one)) in found
                )

    def _still_there(self, before: Mirrored, found: Json) -> Mirrored:
        since = before.object.get(mapping.MISSED)
        is_out = has_left_filter(since, self._now)
        properties = mapping.whole(plain(before), found, mapping.USER_SELECT)
        return Mirrored(
            before.external_id, mapping.missed(properties, since or self._now.isoformat(), is_out=is_out)
        )  # fmt: skip

    async def _ask(self, ids: list[str]) -> dict[str, Json]:
        """Those of the users who are there. One who cannot be asked for makes the reading incomplete."""
        found: dict[str, Json] = {}
        waiting = list(ids)
        for _ in range(ASKED_AT_ONCE):
            answers = await self._batch(waiting)
            pause = 0.0
            for entry_id in list(waiting):
                status, answer, seconds = answers.get(entry_id, (503, None, 1.0))
                if status in _BUSY:
                    pause = max(pause, seconds)
                    continue
                waiting.remove(entry_id)
                if status == 200 and isinstance(answer, dict):
                    found[entry_id] = answer
                elif status != 404:
                    raise fault_of(status, answer)
            if not waiting:
                return found
            await self._graph.pause(pause)
        raise GraphFault("unavailable", "Users who are missing from the filtered list could not be asked for.")

    async def _batch(self, ids: list[str]) -> dict[str, tuple[int, Any, float]]:
        """Status, body and pause by user."""
        requests = [
            {"id": str(number), "method": "GET", "url": f"/users/{entry_id}?$select={_SELECT}"}
            for number, entry_id in enumerate(ids)
        ]
        page = await self._graph.post(self._graph.address("/$batch"), {"requests": requests})
        answers: dict[str, tuple[int, Any, float]] = {}
        for answer in page.get("responses") or []:
            if not isinstance(answer, dict) or not str(answer.get("id", "")).isdecimal():
                continue
            number, status = int(answer["id"]), answer.get("status")
            if number < len(ids) and isinstance(status, int):
                answers[ids[number]] = status, answer.get("body"), _pause_of(answer, self._now)
        return answers


def _listed(known: Mirrored | None, found: Json) -> Mirrored:
    before = plain(known) if known is not None else None
    return Mirrored(USER + found["id"], mapping.whole(before, found, mapping.USER_SELECT))


def _pause_of(answer: Mapping[str, Any], now: datetime) -> float:
    headers = answer.get("headers")
    told = headers.get("Retry-After") if isinstance(headers, Mapping) else None
    return min(retry_after(str(told), now) or 1.0, 60.0) if told is not None else 1.0


def _is_in(mirrored: Mirrored) -> bool:
    return mirrored.removed is None and not mapping.is_out_of_filter(mirrored.object)


def _id(mirrored: Mirrored) -> str:
    return mirrored.external_id.removeprefix(USER)
