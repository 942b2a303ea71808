"""Notes of discovered addresses: one busy customer takes no room from the others (SPEC U5)."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_common.documents import RecipientState
from postern_edge import discoveries
from postern_edge.directory_index import DirectoryIndex
from postern_edge.discoveries import Discoveries
from postern_edge.fair import Shares

NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Notes:
    """Keeps what is written, in order."""

    def __init__(self):
        self.written = []

    async def put(self, customer_id, key, address, seen_at):
        self.written.append((customer_id, key))


def gathering(*customers):
    index = DirectoryIndex()
    for customer_id in customers:
        index.put_customer(customer_id, {"recipient_mode": "discover"})
    store: Any = Notes()
    directory: Any = SimpleNamespace(index=index)
    return Discoveries(store, directory), store


def delivered(found, customer_id, *locals_):
    recipients = [{"user_id": None, "key": f"{local}@x.test", "address": f"{local}@x.test"} for local in locals_]
    message = {"customer_id": customer_id, "direction": "inbound", "sender": "a@b.test", "recipients": recipients}
    changes = [SimpleNamespace(state=RecipientState.DELIVERED, index=index) for index in range(len(recipients))]
    found.note(message, changes, NOW)


@pytest.mark.spec("U5")
async def test_a_busy_customer_drives_no_other_one_out(monkeypatch):
    monkeypatch.setattr(discoveries, "MAX_WAITING", 100)
    found, store = gathering("busy", "small", "other")
    delivered(found, "busy", *(f"u{number}" for number in range(500)))
    delivered(found, "small", "ann", "bob")
    delivered(found, "other", *(f"o{number}" for number in range(30)))
    delivered(found, "busy", *(f"v{number}" for number in range(500)))
    await found.flush()
    counts = {name: sum(owner == name for owner, _ in store.written) for name in ("busy", "small", "other")}
    assert counts == {"busy": 68, "small": 2, "other": 30}
    # Whoever has little is written first, should the database go away half-way.
    assert {owner for owner, _ in store.written[:3]} == {"busy", "small", "other"}
    await found.flush()
    assert len(store.written) == 100


@pytest.mark.spec("U5")
async def test_an_address_waits_once(monkeypatch):
    found, store = gathering("one", "two")
    for _ in range(3):
        delivered(found, "one", "ann", "ann")
        delivered(found, "two", "ann")
    await found.flush()
    assert sorted(store.written) == [("one", "ann@x.test"), ("two", "ann@x.test")]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcde"), st.integers(0, 12)), max_size=200))
def test_places_are_shared_fairly_whatever_comes_and_goes(steps):
    shares = Shares(10)
    for comes, owner, key in steps:
        if comes:
            shares.put(owner, str(key), key)
        else:
            shares.drop(owner, str(key))
        held = [one for one, _, _ in shares.round_robin()]
        assert len(shares) == len(held) <= 10
    for owner in "abcde":
        for key in range(12):
            shares.put(owner, str(key), key)
    counts = [sum(one == owner for one, _, _ in shares.round_robin()) for owner in "abcde"]
    assert sum(counts) == 10
    assert max(counts) - min(counts) <= 1
