"""The API as a process: what it reviews and applies goes on in the next one after it was killed."""

import pytest

from tests.servers.farm import Farm
from tests.servers.stack import Stack
from tests.servers.waiting import eventually

ROWS = 6000


@pytest.fixture
def stack(farm: Farm):
    made = Stack(farm)
    made.start("api")
    yield made
    made.stop("api")


@pytest.mark.spec("U3")
def test_an_import_survives_the_death_of_the_process_twice(stack):
    customer = f"/v1/customers/{stack.customer()}"
    stack.api.post(f"{customer}/domains", {"name": "acme.scratch.test"})
    rows = "".join(f"user{number}@acme.scratch.test,User {number}\n" for number in range(ROWS))
    path = f"{customer}/imports/" + stack.api.post(f"{customer}/imports", {"text": f"email,first_name\n{rows}"})["id"]

    def look():
        return stack.api.get(path)

    def die_and_come_back(seconds):
        stack.kill("api")
        stack.move_clock(seconds)  # the lease of the dead lapses
        stack.start("api")

    eventually(lambda: look()["rows"] > 0, timeout=30)
    die_and_come_back(120)
    eventually(lambda: look()["state"] == "reviewed", timeout=60)
    assert look()["counts"]["create"] == ROWS
    stack.api.post(f"{path}/apply")
    eventually(lambda: look()["results"]["created"] > 0, timeout=30)
    die_and_come_back(240)
    eventually(lambda: look()["state"] == "applied", timeout=60)
    assert look()["results"] == {"created": ROWS, "updated": 0, "stale": 0, "left_out": 0}
