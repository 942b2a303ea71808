"""Places for deliveries: how many, whose turn it is, and what a server earns by taking mail."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postern_edge.outbound.gates import Gate, Places
from postern_edge.rules.pace import SLOW_SECONDS, Pace, allowed, is_slow


async def fill(places, customer_id, count, *, in_doubt):
    """So many deliveries that never end; how many of them got a place, and their tasks."""
    inside = 0

    async def hold():
        nonlocal inside
        async with places.taken(customer_id, in_doubt=in_doubt):
            inside += 1
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hold()) for _ in range(count)]
    await asyncio.sleep(0.01)
    return inside, tasks


async def end(*groups):
    tasks = [task for group in groups for task in group]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.spec("R3")
async def test_what_is_in_doubt_gets_half_of_all_places_and_an_eighth_for_a_customer():
    places = Places(80)
    one, tasks = await fill(places, "a", 100, in_doubt=True)
    others = [await fill(places, f"c{number}", 100, in_doubt=True) for number in range(9)]
    assert (one, sum(inside for inside, _ in others)) == (10, 30)
    assert places.is_crowded
    sure, more = await fill(places, "sure", 100, in_doubt=False)
    assert sure == 40
    await end(tasks, more, *(group for _, group in others))
    assert not places.is_crowded


@pytest.mark.spec("R3")
async def test_no_customer_gets_all_places():
    places = Places(80)
    greedy, tasks = await fill(places, "greedy", 200, in_doubt=False)
    modest, more = await fill(places, "modest", 50, in_doubt=False)
    assert (greedy, modest) == (60, 20)
    await end(tasks, more)


@pytest.mark.spec("R3")
async def test_the_customer_with_the_fewest_places_is_next():
    gate, order = Gate(lambda: 2), []

    async def pass_through(name):
        async with gate.passed(name):
            order.append(name)

    async with AsyncExitStack() as held:
        await held.enter_async_context(gate.passed("many"))
        await held.enter_async_context(gate.passed("many"))
        tasks = [asyncio.create_task(pass_through(name)) for name in ("many", "many", "few", "many")]
        await asyncio.sleep(0)
        assert (gate.waiting, order) == (4, [])
    await asyncio.gather(*tasks)
    assert (order[0], gate.waiting) == ("few", 0)


@pytest.mark.spec("R3")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3)), max_size=30), st.integers(1, 4))
async def test_places_are_never_lost_or_given_twice_whoever_gives_up(steps, capacity):
    gate, inside = Gate(lambda: capacity, 2), []

    async def stay(name, turns):
        async with gate.passed(name):
            inside.append(name)
            try:
                assert len(inside) <= capacity
                assert inside.count(name) <= 2
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                inside.remove(name)

    tasks = []
    for name, gives_up, turns in steps:
        tasks.append(asyncio.create_task(stay(name, turns)))
        await asyncio.sleep(0)
        if gives_up:
            tasks[-1].cancel()
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ends)
    assert gate.waiting == 0
    async with AsyncExitStack() as held, asyncio.timeout(1):
        for number in range(capacity):
            await held.enter_async_context(gate.passed(f"x{number}"))


def test_a_server_earns_connections_and_loses_its_name_while_it_is_slow():
    pace = Pace()
    assert (allowed(pace, 20), is_slow(pace, 0.0)) == (2, True)
    for _ in range(5):
        pace.end(pace.begin(1.0))
        pace.succeeded(0.1)
    assert (allowed(pace, 20), allowed(pace, 4), is_slow(pace, 2.0)) == (7, 4, False)
    began = pace.begin(10.0)
    assert not is_slow(pace, 10.0 + SLOW_SECONDS)
    assert is_slow(pace, 10.1 + SLOW_SECONDS)
    pace.end(began)
    assert not is_slow(pace, 30.0)
    for _ in range(20):
        pace.succeeded(60.0)
    assert is_slow(pace, 30.0)


@pytest.mark.spec("R3")
async def test_a_place_is_not_lost_with_somebody_who_gives_up_as_it_becomes_free():
    gate = Gate(lambda: 1)

    async def stand():
        async with gate.passed("b"):
            pass

    async with gate.passed("a"):
        waits = asyncio.create_task(stand())
        await asyncio.sleep(0)
        waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    async with asyncio.timeout(1), gate.passed("c"):
        assert gate.waiting == 0
