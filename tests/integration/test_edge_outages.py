"""The database dies in the middle and the process is told to stop: what got 250 is there, once."""

import asyncio
import os
import subprocess
import sys
from collections import Counter

import httpx2
import pytest

from postern_common.errors import Temporary
from postern_local.ports import free_ports
from tests.servers.edge_inside import DOMAIN, InsideEdge, message
from tests.servers.mail import Dialogue, smtp_send
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually, eventually_async


@pytest.mark.spec("R4")
async def test_a_database_that_is_killed_in_the_middle_loses_and_doubles_nothing(
    mongo_uri, database, vhost, mongod_unit, hop
):
    edge = InsideEdge(mongo_uri, database, vhost)
    await edge.seed(hop)
    await edge.start()
    accepted, refused = [], []

    async def send(number):
        await asyncio.sleep(number * 0.01)
        try:
            ids = await edge.edge.spool.accept(message(body=b"X-Number: %d\r\n\r\n" % number))
            accepted.extend(ids.message_ids)
        except Temporary:
            refused.append(number)

    sending = [asyncio.create_task(send(number)) for number in range(200)]
    await asyncio.sleep(0.7)
    await asyncio.to_thread(mongod_unit.kill)
    await asyncio.to_thread(mongod_unit.start)
    await asyncio.gather(*sending)
    assert len(accepted) + len(refused) == 200

    async def all_done():
        found = await edge.documents()
        done = {one["_id"] for one in found if one["state"] == "done"}
        return set(accepted) <= done and len(found) == len(accepted)

    await eventually_async(all_done, timeout=60)
    copies = Counter(taken.data for taken in hop.messages)
    assert len(copies) == len(accepted)
    assert sum(copies.values()) == len(copies), "a kill of the database alone doubles nothing"
    await edge.close()


@pytest.mark.spec("R4")
async def test_a_stopping_process_ends_what_is_under_way_and_exits_cleanly(mongo_uri, database, vhost, hop, tmp_path):
    inside = InsideEdge(mongo_uri, database, vhost)
    await inside.mongo.prepare()
    await inside.seed(hop)
    port, ops_port = free_ports(2)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")},
        "MONGODB_URI": mongo_uri,
        "AMQP_URL": vhost,
        "POSTERN_ENVIRONMENT": "test",
        "POSTERN_MONGODB_DATABASE": database,
        "POSTERN_ALLOW_NETWORKS": "127.0.0.0/8",
        "POSTERN_OPS_HOST": "127.0.0.1",
        "POSTERN_OPS_PORT": str(ops_port),
        "POSTERN_EDGE_HOST": "127.0.0.1",
        "POSTERN_EDGE_PORT": str(port),
        "POSTERN_EDGE_HOSTNAME": "mx.postern.test",
    }
    log = (tmp_path / "edge.log").open("w+b")
    process = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-m", "postern_edge"], env=environment, stdout=log, stderr=log
    )
    try:
        await asyncio.to_thread(_wait_ready, process, ops_port)
        hop.delays["END"] = 1.0
        await asyncio.to_thread(smtp_send, "127.0.0.1", port, "bob@sender.test", [f"ann@{DOMAIN}"])
        idle = await asyncio.to_thread(Dialogue, "127.0.0.1", port)
        await asyncio.to_thread(idle.greet)
        await eventually_async(lambda: hop.count("DATA") == 1)
        process.terminate()
        await asyncio.to_thread(idle.expect, "421 4.3.2")
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        process.kill()
        process.wait()
    assert len(hop.messages) == 1
    done = await inside.one()
    assert done["state"] == "done"
    assert done["pending_events"] == []
    log.seek(0)
    assert b"Traceback" not in log.read()
    await inside.close()


def _wait_ready(process, ops_port):
    def ready():
        assert process.poll() is None
        try:
            return httpx2.get(f"http://127.0.0.1:{ops_port}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    eventually(ready, timeout=40)


def test_the_settings_are_printed_with_secrets_masked(monkeypatch):
    environment = {"MONGODB_URI": "mongodb://u:hush@h/", "AMQP_URL": "amqp://u:hush@h/", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "postern_edge", "settings"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "POSTERN_EDGE_LEASE_SECONDS=60.0" in done.stdout
    assert "hush" not in done.stdout
