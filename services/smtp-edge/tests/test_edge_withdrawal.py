"""What was refused is taken away again, and in a crowd that hinders nobody else."""

import asyncio

import pytest

from postern_common.errors import Temporary
from postern_edge import withdrawal
from postern_edge.messages import Entry
from postern_edge.withdrawal import BATCH, Withdrawal

pytestmark = pytest.mark.spec("R4")


class Store:
    """Is away for the first `failures` calls; `removed` has the ids, `busiest` how many calls ran at one time."""

    def __init__(self, failures: int = 0, fault: Exception | None = None) -> None:
        self.failures = failures
        self.fault = fault or Temporary("the database is away")
        self.removed: list[str] = []
        self.largest = 0
        self.under_way = 0
        self.busiest = 0

    async def remove(self, entries):
        self.under_way += 1
        self.busiest = max(self.busiest, self.under_way)
        self.largest = max(self.largest, len(entries))
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.failures:
            self.failures -= 1
            raise self.fault
        assert all((set(entry.document), entry.body) == ({"_id", "lease_until"}, None) for entry in entries)
        self.removed += [entry.message_id for entry in entries]


def refused(count):
    documents = ({"_id": f"msg_{number}", "lease_until": None, "recipients": []} for number in range(count))
    return [Entry(document, b"body") for document in documents]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(withdrawal, "FIRST_PAUSE_SECONDS", 0.0)


async def test_thousands_of_refused_messages_are_one_worry_at_a_time():
    store = Store(failures=3)
    work = Withdrawal(store.remove)
    everything = refused(1000)
    for entry in everything:
        work.add([entry])
    await work.drain()
    assert store.removed == [entry.message_id for entry in everything]
    assert (store.busiest, store.largest) == (1, BATCH)


async def test_what_is_refused_later_is_taken_away_too():
    store = Store()
    work = Withdrawal(store.remove)
    work.add(refused(1))
    await work.drain()
    work.add(refused(2)[1:])
    await work.drain()
    assert store.removed == ["msg_0", "msg_1"]


async def test_a_database_that_stays_away_is_not_asked_for_ever(monkeypatch):
    monkeypatch.setattr(withdrawal, "GIVE_UP_SECONDS", -1.0)
    store = Store(failures=1_000_000)
    work = Withdrawal(store.remove)
    work.add(refused(5))
    async with asyncio.timeout(5):
        await work.drain()
    assert store.removed == []


async def test_a_fault_that_nobody_foresaw_leaves_nothing_behind_either():
    store = Store(failures=1, fault=RuntimeError("a new kind"))
    work = Withdrawal(store.remove)
    work.add(refused(1))
    await work.drain()
    assert store.removed == ["msg_0"]
