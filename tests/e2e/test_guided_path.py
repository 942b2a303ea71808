"""The whole path as a new customer walks it, through real servers: domain, DNS, mail server, a message, its trace."""

import subprocess
import time

import pytest

from postern_local.faults import StackFault
from tests.servers.mail import Dialogue, plain_message, smtp_send
from tests.servers.postfix import Postfix
from tests.servers.stack import Stack
from tests.servers.waiting import eventually


@pytest.fixture(scope="module")
def stack(farm):
    made = Stack(
        farm,
        settings={
            "POSTERN_EDGE_FIRST_RETRY_SECONDS": "1",
            "POSTERN_EDGE_LEASE_SECONDS": "6",
            "POSTERN_DNS_LEASE_SECONDS": "30",
        },
    )
    try:
        made.start_all()
        yield made
    finally:
        made.close()


def messages(stack, customer, **filters):
    query = "&".join(f"{key}={value}" for key, value in filters.items())
    return stack.api.get(f"/v1/customers/{customer}/messages?{query}")["items"]


def states(stack, customer):
    return [one["state"] for message in messages(stack, customer) for one in message["recipients"]]


@pytest.mark.spec("D1")
@pytest.mark.spec("D2")
@pytest.mark.spec("D7")
@pytest.mark.spec("R4")
@pytest.mark.spec("V4")
def test_a_domain_is_proven_by_dns_and_its_mail_arrives_and_can_be_traced(stack):
    customer = stack.customer("Guided Ltd")
    path = f"/v1/customers/{customer}/domains"
    domain = stack.api.post(path, {"name": "guided.scratch.test"})
    assert domain["state"] == "pending"
    host, port = stack.smtp()
    with Dialogue(host, port) as client:
        client.greet()
        client.command("MAIL FROM:<sender@elsewhere.test>")
        deferred = "RCPT TO:<ann@guided.scratch.test>"  # the edge follows the database, a moment behind when busy
        eventually(lambda: client.command(deferred, "").enhanced == "4.7.1", timeout=10, pause=0.5)
        assert client.command("RCPT TO:<ann@nobodys.scratch.test>", 550).enhanced == "5.7.1"
    looked = stack.api.post(f"{path}/guided.scratch.test/verify")
    assert looked["state"] == "pending"
    assert looked["verification"]["last_check"]["outcome"] == "absent"
    stack.publish_code(domain)
    verified = stack.api.post(f"{path}/guided.scratch.test/verify")
    assert verified["state"] == "verified"
    assert verified["verification"]["last_check"]["outcome"] == "match"
    site = stack.site(customer)
    test = stack.api.post(f"/v1/customers/{customer}/sites/{site['id']}/test")
    assert test["servers"][0]["result"] == "ok"
    user = stack.user(customer, "ann@guided.scratch.test", aliases=["a.lovelace@guided.scratch.test"])
    assert user["email"] == "ann@guided.scratch.test"
    text = plain_message("sender@elsewhere.test", ["ann@guided.scratch.test"], "Over the whole path")
    before = len(stack.next_hop.messages())
    eventually(lambda: not smtp_send(host, port, "sender@elsewhere.test", ["Ann@Guided.Scratch.Test"], text))
    eventually(lambda: len(stack.next_hop.messages()) > before)
    (traced,) = eventually(lambda: messages(stack, customer, state="delivered"))
    assert traced["subject"] == "Over the whole path"
    assert traced["sender"] == "sender@elsewhere.test"
    assert traced["recipients"][0]["reply"].startswith("250")
    assert traced["recipients"][0]["next_hop"] == f"127.0.0.1:{stack.next_hop.port}"
    whole = stack.api.get(f"/v1/customers/{customer}/messages/{traced['id']}")
    assert len(whole["steps"]) >= 2
    found = messages(stack, customer, queue_id=traced["queue_id"])
    assert [one["id"] for one in found] == [traced["id"]]


@pytest.mark.spec("R4")
@pytest.mark.spec("U4")
def test_known_only_takes_users_aliases_tags_and_the_postmaster_and_refuses_others(stack):
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    stack.user(customer, f"ann@{domain}", aliases=[f"second@{domain}"])
    stack.api.change("PATCH", f"/v1/customers/{customer}", {"recipient_mode": "known_only"})
    host, port = stack.smtp()

    def answers():
        with Dialogue(host, port) as client:
            client.greet()
            client.command("MAIL FROM:<sender@elsewhere.test>")
            names = ["ann", "ANN", "ann+news", "second", "postmaster", "abuse", "nobody"]
            client.send(*(f"RCPT TO:<{name}@{domain.upper()}>" for name in names))
            return [(name, reply.code, reply.enhanced) for name, reply in ((name, client.read()) for name in names)]

    def as_expected():
        found = answers()
        assert [code for _, code, _ in found] == [250, 250, 250, 250, 250, 250, 550], found
        assert found[-1][2] == "5.1.1"
        return True

    eventually(as_expected, timeout=15, pause=0.2)


@pytest.mark.spec("R3")
@pytest.mark.spec("R5")
def test_a_postfix_next_hop_that_is_down_gets_its_mail_when_it_comes_up(stack, smtp_sink):
    customer = stack.customer()
    domain = stack.domain(customer)
    postfix = Postfix(stack.directory / "postfix", smtp_sink.port, domain)
    stack.site(customer, postfix.relaying_port)
    host, port = stack.smtp()
    smtp_send(
        host, port, "sender@elsewhere.test", [f"ann@{domain}"], plain_message("s@elsewhere.test", [f"ann@{domain}"])
    )
    eventually(lambda: states(stack, customer) == ["deferred"])
    postfix.start()
    try:
        eventually(lambda: states(stack, customer) == ["delivered"], timeout=30)
        (message,) = messages(stack, customer)
        assert "queued as" in message["recipients"][0]["reply"]
        eventually(lambda: len(smtp_sink.messages()) == 1, timeout=20)
    finally:
        postfix.stop()


@pytest.mark.spec("R4")
def test_swaks_delivers_over_starttls(stack, tmp_path):
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    host, port = stack.smtp()
    command = ["swaks", "--server", host, "--port", str(port), "--tls-optional", "--to", f"ann@{domain}"]
    command += ["--from", "sender@elsewhere.test", "--header", "Subject: by swaks", "--body", "line\n.leading dot\n"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    eventually(lambda: states(stack, customer) == ["delivered"], timeout=20)
    stored = next(file.read_bytes() for file in stack.next_hop.messages() if b"Subject: by swaks" in file.read_bytes())
    assert b"\n.leading dot" in stored


@pytest.mark.spec("V3")
@pytest.mark.spec("R4")
@pytest.mark.parametrize("victim", ["api", "dns", "edge", "rabbitmq", "mongod", "sync", "deletion"])
def test_killing_and_restarting_a_part_in_the_middle_of_the_path_needs_no_hand(stack, victim):
    customer = stack.customer()
    path = f"/v1/customers/{customer}/domains"
    name = f"kill-{victim}.scratch.test"
    domain = stack.api.post(path, {"name": name})
    stack.publish_code(domain)
    stack.kill(victim)
    time.sleep(0.5)
    stack.start(victim)
    stack.await_ready(timeout=60)
    eventually(lambda: _verified(stack, f"{path}/{name}"), timeout=90, pause=0.5)
    stack.site(customer)
    host, port = stack.smtp()
    recipient = f"ann@{name}"

    def sent():
        try:
            return not smtp_send(
                host, port, "s@elsewhere.test", [recipient], plain_message("s@elsewhere.test", [recipient])
            )
        except OSError:
            return False

    eventually(sent, timeout=30, pause=0.5)
    stack.kill(victim)
    stack.start(victim)
    stack.await_ready(timeout=60)
    eventually(lambda: states(stack, customer)[:1] == ["delivered"], timeout=60)


def _verified(stack, domain):
    """Ask like somebody who presses the button again when told to come back later."""
    try:
        return stack.api.post(f"{domain}/verify")["state"] == "verified"
    except StackFault:
        return False
