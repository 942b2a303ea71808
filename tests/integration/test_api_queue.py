"""What operators see of the queue and do to it: retry, hold, release, bounce, drop (SPEC R5)."""

from datetime import timedelta

import pytest

from tests.servers.api import api, place, prepared  # noqa: F401

HOP = "192.0.2.25:25"


def recipient(address, state="deferred", *, next_hop=HOP, at=None):
    return {
        "address": address, "key": address, "original": address, "user_id": None, "state": state, "reply": "451 later",
        "next_hop": next_hop, "attempts": 1, "next_attempt_at": at, "notify": [], "orcpt": None,
    }  # fmt: skip


async def put(api, customer, name, *recipients, **fields):
    now = await api.mongo.now()
    later = now + timedelta(hours=1)
    document = {
        "_id": f"msg_{name}", "customer_id": customer.rsplit("/", 1)[-1], "queue_id": name, "direction": "inbound",
        "message_id": "<1@x.test>", "sender": "bob@sender.test", "sender_key": "bob@sender.test", "subject": "Hello",
        "recipients": list(recipients) or [recipient("ann@acme.com", at=later)], "recipient_keys": ["ann@acme.com"],
        "size": 10, "state": "queued", "received_at": now, "due_at": later, "expires_at": now + timedelta(days=5),
        "lease_owner": None, "lease_until": None, "steps": [], "pending_events": [], "version": 3,
    }  # fmt: skip
    await api.mongo.db["messages"].insert_one(document | fields)
    return document["_id"]


async def act(api, customer, action, *ids, **options):
    answer = await api.post(
        f"{customer}/messages/actions", {"action": action, "message_ids": list(ids)}, expect=200, **options
    )
    return [one["outcome"] for one in answer.json()["results"]]


async def stored(api, message_id):
    return await api.mongo.db["messages"].find_one({"_id": message_id})


@pytest.mark.spec("R5")
async def test_retry_makes_everything_that_is_left_due_at_once(api):
    customer = await api.customer()
    later = await api.mongo.now() + timedelta(hours=1)
    left = [recipient("ann@acme.com", at=later), recipient("bob@acme.com", "delivered")]
    message_id = await put(api, customer, "a", *left)
    assert await act(api, customer, "retry", message_id) == ["done"]
    found = await stored(api, message_id)
    assert found["due_at"] <= await api.mongo.now()
    assert [one["next_attempt_at"] for one in found["recipients"]] == [found["due_at"], None]
    assert (found["version"], found["steps"][0]["what"]) == (4, "retry")
    shown = (await api.get(f"{customer}/messages/{message_id}", expect=200)).json()
    assert (shown["queue"], shown["steps"][0]["actor"]) == ("queued", found["steps"][0]["actor"])


@pytest.mark.spec("R5")
async def test_hold_and_release(api):
    customer = await api.customer()
    message_id = await put(api, customer, "a")
    assert await act(api, customer, "release", message_id) == ["wrong-state"]
    assert await act(api, customer, "hold", message_id) == ["done"]
    assert await act(api, customer, "hold", message_id) == ["wrong-state"]
    assert await act(api, customer, "retry", message_id) == ["wrong-state"]
    listed = (await api.get(f"{customer}/messages?queue=held", expect=200)).json()["items"]
    assert [one["id"] for one in listed] == [message_id]
    assert await act(api, customer, "release", message_id) == ["done"]
    found = await stored(api, message_id)
    assert (found["state"], [step["what"] for step in found["steps"]]) == ("queued", ["hold", "release"])
    assert found["due_at"] <= await api.mongo.now()


@pytest.mark.spec("R5")
@pytest.mark.parametrize("action", ["bounce", "drop"])
async def test_bounce_and_drop_are_left_to_an_edge_that_does_it_at_once(api, action):
    customer = await api.customer()
    waiting, held = await put(api, customer, "a"), await put(api, customer, "b", state="held")
    assert await act(api, customer, action, waiting, held) == ["done", "done"]
    for message_id in (waiting, held):
        found = await stored(api, message_id)
        assert (found["state"], found["order"]["action"]) == ("queued", action)
        assert found["due_at"] <= await api.mongo.now()


@pytest.mark.spec("R5")
async def test_each_message_is_answered_for_by_itself(api):
    customer, other = await api.customer(), await api.customer("Other Ltd")
    now = await api.mongo.now()
    fine = await put(api, customer, "a")
    leased = await put(api, customer, "b", lease_owner="edge", lease_until=now + timedelta(minutes=1))
    done = await put(api, customer, "c", state="done", due_at=None)
    theirs = await put(api, other, "d")
    outcomes = await act(api, customer, "retry", fine, leased, done, theirs, "msg_none", fine)
    assert outcomes == ["done", "under-way", "wrong-state", "not-found", "not-found", "done"]
    assert (await stored(api, theirs))["version"] == 3
    assert (await stored(api, fine))["version"] == 4, "named twice, done once"
    assert await act(api, customer, "drop", done, theirs) == ["wrong-state", "not-found"]


@pytest.mark.spec("R5", "T2")
async def test_auditors_act_on_nothing_and_the_whole_queue_is_the_platforms(api):
    customer = await api.customer()
    message_id = await put(api, customer, "a")
    auditor = await api.token_for(customer, "customer_auditor")
    admin = await api.token_for(customer, "customer_admin")
    body = {"action": "drop", "message_ids": [message_id]}
    await api.post(f"{customer}/messages/actions", body, token=auditor, expect=403)
    assert await act(api, customer, "hold", message_id, token=admin) == ["done"]
    await api.get("/v1/queue", token=admin, expect=403)
    for wrong in ({"action": "eat", "message_ids": ["a"]}, {"action": "drop", "message_ids": []}):
        await api.post(f"{customer}/messages/actions", wrong, expect=422)


@pytest.mark.spec("R5")
async def test_the_queue_is_counted_by_customer_and_next_hop(api):
    customer, other = await api.customer(), await api.customer("Other Ltd")
    own, theirs = customer.rsplit("/", 1)[-1], other.rsplit("/", 1)[-1]
    for number in range(3):
        await put(api, customer, f"a{number}", recipient("ann@acme.com"), recipient("bob@acme.com"))
    await put(api, customer, "b", recipient("ann@acme.com", "accepted", next_hop=None))
    await put(api, customer, "c", recipient("ann@acme.com"), recipient("bob@acme.com", next_hop="mx.far.test:25"))
    await put(api, other, "d", state="held")
    await put(api, other, "e", recipient("ann@acme.com", "delivered"), state="done", due_at=None)

    async def rows(query=""):
        answer = (await api.get(f"/v1/queue{query}", expect=200)).json()
        assert not answer["truncated"]
        names = ("customer_id", "next_hop", "queue", "messages", "recipients")
        return [tuple(row[name] for name in names) for row in answer["items"]]

    assert await rows() == sorted(
        [
            (own, HOP, "queued", 4, 7),
            (own, None, "queued", 1, 1),
            (own, "mx.far.test:25", "queued", 1, 1),
            (theirs, HOP, "held", 1, 1),
        ],
        key=lambda row: (-row[3], row[0], row[1] or ""),
    )
    assert await rows(f"?customer_id={theirs}") == [(theirs, HOP, "held", 1, 1)]
    assert await rows("?next_hop=mx.far.test:25") == [(own, "mx.far.test:25", "queued", 1, 1)]
    listed = (await api.get(f"{customer}/messages?queue=queued&next_hop=mx.far.test:25", expect=200)).json()["items"]
    assert [one["queue_id"] for one in listed] == ["c"]
