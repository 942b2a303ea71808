"""The life of a service process."""

import asyncio
import socket

import httpx2
import pytest
from pydantic import SecretStr

from postern_common.runtime import Runtime
from postern_common.settings import CommonSettings


@pytest.fixture
def settings():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return CommonSettings.model_construct(
        mongodb_uri=SecretStr("x"), amqp_url=SecretStr("x"), ops_host="127.0.0.1", ops_port=port, drain_seconds=2.0
    )


async def get(settings, path):
    async with httpx2.AsyncClient(trust_env=False) as client:
        for _ in range(100):
            try:
                return await client.get(f"http://127.0.0.1:{settings.ops_port}{path}")
            except httpx2.ConnectError:
                await asyncio.sleep(0.02)
    raise AssertionError("the operations port does not answer")


async def forever():
    await asyncio.Event().wait()


async def test_readiness_names_each_check_and_tells_no_reason(settings):
    runtime = Runtime("probe", settings)
    broken = True

    async def database():
        if broken:
            raise RuntimeError("mongodb://user:hunter2@db.test is away")

    runtime.add_task("work", forever)
    runtime.add_check("database", database)
    running = asyncio.create_task(runtime.run())
    answer = await get(settings, "/readyz?verbose")
    assert answer.status_code == 503
    assert "database: failed" in answer.text
    assert "hunter2" not in answer.text
    assert (await get(settings, "/livez")).status_code == 200
    assert "postern_common_ready" in (await get(settings, "/metrics")).text
    broken = False
    assert (await get(settings, "/readyz")).status_code == 200
    runtime.stop()
    assert await running == 0


async def test_a_check_that_is_not_required_is_shown_and_does_not_count(settings):
    runtime = Runtime("probe", settings)

    async def broker():
        raise RuntimeError("away")

    runtime.add_task("work", forever)
    runtime.add_check("broker", broker, required=False)
    running = asyncio.create_task(runtime.run())
    answer = await get(settings, "/readyz?verbose")
    assert answer.status_code == 200
    assert "broker: failed (not needed for readiness)" in answer.text
    runtime.stop()
    assert await running == 0


async def test_drain_runs_while_the_tasks_still_do_and_readiness_is_false_meanwhile(settings):
    runtime = Runtime("probe", settings)
    order = []

    async def work():
        try:
            await forever()
        finally:
            order.append("work ended")

    async def drain():
        order.append((await get(settings, "/readyz")).status_code)

    async def close():
        order.append("closed")

    runtime.add_task("work", work)
    runtime.on_drain("listener", drain)
    runtime.on_close(close)
    running = asyncio.create_task(runtime.run())
    await get(settings, "/livez")
    runtime.stop()
    assert await running == 0
    assert order == [503, "work ended", "closed"]


async def test_a_drain_that_hangs_is_cut_off(settings):
    runtime = Runtime("probe", settings.model_copy(update={"drain_seconds": 0.1}))
    runtime.add_task("work", forever)
    runtime.on_drain("hangs", forever)
    running = asyncio.create_task(runtime.run())
    await get(settings, "/livez")
    runtime.stop()
    async with asyncio.timeout(5):
        assert await running == 0


@pytest.mark.parametrize("failure", [RuntimeError("boom"), asyncio.CancelledError(), None])
async def test_a_task_that_ends_by_itself_ends_the_process_with_an_error(settings, failure):
    runtime = Runtime("probe", settings)

    async def work():
        if failure:
            raise failure

    runtime.add_task("work", work)
    async with asyncio.timeout(5):
        assert await runtime.run() == 1
