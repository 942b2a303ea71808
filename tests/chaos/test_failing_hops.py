"""Next hops fail in every way at once: their mail waits or is returned, and the others' mail is not held up."""

import statistics
from collections import Counter
from itertools import count as numbered

import pytest
from pymongo import MongoClient

from tests.chaos.failing_hops import DELIVERED, SENDERS, WAITS, Kind, Senders, kinds, notices
from tests.chaos.faults import unfinished
from tests.chaos.load import numbers
from tests.servers.hops import Hops
from tests.servers.stack import Stack
from tests.servers.waiting import eventually

FIVE_DAYS = 5 * 86_400
NUDGE_SECONDS = 600
EXPIRED = "4.4.7"  # RFC 3463 3.5
QUICK_SECONDS = 3.0
SETTINGS = {
    "POSTERN_EDGE_FIRST_RETRY_SECONDS": "1",
    "POSTERN_EDGE_CONNECT_TIMEOUT_SECONDS": "3",
    "POSTERN_EDGE_TLS_TIMEOUT_SECONDS": "3",
    "POSTERN_EDGE_REPLY_TIMEOUT_SECONDS": "3",
    "POSTERN_EDGE_FINAL_REPLY_TIMEOUT_SECONDS": "3",
}


class World:
    """The hops by kind, the edge before them, and home, where notifications arrive. Each hop is another customer's."""

    def __init__(self, farm, hops):
        self.stack = Stack(farm, settings=SETTINGS)
        self.uri = farm.mongo_uri()
        self.kinds = kinds()
        self.hops = {kind.name: hops.add(**kind.script) for kind in self.kinds}
        self.home = hops.add()
        client = MongoClient(self.uri)
        database = client[self.stack.database]
        _add_customer(database, "home", SENDERS, self.home)
        for number, kind in enumerate(self.kinds):
            _add_customer(database, str(number), kind.domain, self.hops[kind.name])
        client.close()
        self._later = numbered(NUDGE_SECONDS, NUDGE_SECONDS)

    def nudge(self):
        """Let some minutes pass."""
        self.stack.move_clock(next(self._later))

    def arrivals(self, kind: Kind, local_part: str = "") -> Counter[int]:
        """How often each number arrived at the kind's hop, for that recipient where one is named."""
        taken = list(self.hops[kind.name].messages)
        return numbers(one.data for one in taken if f"{local_part}@" in " ".join(one.recipients))

    def attempts(self) -> int:
        """The most attempts that any one recipient saw."""
        client = MongoClient(self.uri)
        [found] = client[self.stack.database]["messages"].aggregate(
            [{"$group": {"_id": None, "most": {"$max": {"$max": "$recipients.attempts"}}}}]
        )
        client.close()
        return int(found["most"])


def _add_customer(database, name, domain, hop):
    customer = {"_id": f"cus_{name}", "recipient_mode": "accept_all", "plus_addressing": True}
    database["customers"].insert_one({**customer, "max_message_bytes": None})
    owned = {"customer_id": customer["_id"]}
    database["domains"].insert_one(
        {"_id": f"dom_{name}", **owned, "name": domain, "state": "verified", "site_id": None}
    )
    server = {"id": "srv_1", "host": hop.host, "port": hop.port, "priority": 10, "tls": "opportunistic"}
    database["sites"].insert_one({"_id": f"sit_{name}", **owned, "is_default": True, "servers": [server]})


@pytest.fixture
def world(farm):
    hops = Hops()
    made = World(farm, hops)
    try:
        made.stack.start("edge")
        yield made
    finally:
        made.stack.close()
        hops.close()


def delays_of_live(world, senders):
    """Seconds from 250 to the arrival at a live hop, in order."""
    found = []
    for kind in world.kinds:
        if kind.name.startswith("live"):
            for taken in list(world.hops[kind.name].messages):
                [number] = numbers([taken.data])
                found.append(taken.at - senders.taken[number])
    return sorted(found)


@pytest.mark.chaos
@pytest.mark.spec("R3")
@pytest.mark.spec("R5")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.soak)])
def test_mail_for_failing_hops_waits_or_returns_and_holds_up_nobody_else(world, count, record_property):
    senders = Senders(world.kinds, count)
    senders.send(world.stack.smtp("edge"))
    theirs = {kind.name: {n for n, one in senders.kind_of.items() if one is kind} for kind in world.kinds}
    waiting = [kind for kind in world.kinds if kind.fate == WAITS]
    mended, broken = waiting[::2], waiting[1::2]
    two_minds = waiting[-1]
    assert two_minds in mended

    def delivered(group):
        return all(theirs[kind.name] <= set(world.arrivals(kind)) for kind in group)

    eventually(lambda: delivered([kind for kind in world.kinds if kind.fate == DELIVERED]), timeout=120, pause=0.3)
    slow = delays_of_live(world, senders)
    assert all(hop.connections for hop in world.hops.values())

    for kind in mended:
        world.hops[kind.name].mend()
    # "takes it and closes" has all of its mail by now; what it is owed is that it hears of each no more.
    eventually(lambda: world.nudge() or delivered(mended), timeout=120, pause=1)
    eventually(
        lambda: world.nudge() or theirs[two_minds.name] <= set(world.arrivals(two_minds, "later")), timeout=60, pause=1
    )

    world.stack.move_clock(FIVE_DAYS + 7200)
    eventually(lambda: not unfinished(world.uri, world.stack.database), timeout=240, pause=1)

    returned = notices(world.home)
    _every_message_came_to_its_end(world, theirs, broken, returned)
    attempts = world.attempts()
    loser = next(kind for kind in world.kinds if "loses_final_reply" in kind.script)
    copies = {kind.name: world.arrivals(kind, kind.local_parts[0]) for kind in world.kinds}
    record_property("counts", f"{len(senders.taken)} taken for {len(world.kinds)} next hops, {len(returned)} returned")
    record_property("counts", f"live ones: median {statistics.median(slow):.2f} s after 250, worst {slow[-1]:.2f} s")
    surplus = {name: one.total() - len(one) for name, one in copies.items()}
    record_property("counts", f"duplicates {sum(surplus.values())}, all where the last reply was lost")
    record_property("counts", f"the longest-waiting recipient was tried {attempts} times")
    assert {name for name, number in surplus.items() if number} <= {loser.name}
    assert max(copies[loser.name].values()) <= attempts
    assert slow[int(len(slow) * 0.99)] < QUICK_SECONDS


def _every_message_came_to_its_end(world, theirs, broken, returned):
    """Each message arrived or was returned with the right status, each recipient's once."""
    told = Counter((notice.number, notice.recipient) for notice in returned)
    assert set(told.values()) == {1}
    statuses = {(notice.number, notice.recipient): notice.status for notice in returned}
    expected = {}
    for kind in world.kinds:
        status = EXPIRED if kind in broken else kind.fate
        if status not in {DELIVERED, WAITS}:
            expected |= {(number, f"ann@{kind.domain}"): status for number in theirs[kind.name]}
        if "never" in kind.local_parts:
            expected |= {(number, f"never@{kind.domain}"): "5.1.1" for number in theirs[kind.name]}
        if kind in broken or kind.fate not in {DELIVERED, WAITS}:
            assert not world.arrivals(kind) or "loses_final_reply" in kind.script
    assert statuses == expected
