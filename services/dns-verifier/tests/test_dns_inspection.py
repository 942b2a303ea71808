"""What is asked about a domain, by a fake of the name servers."""

import pytest

from postern_common.settings import load
from postern_dns.inspection import Inspector
from postern_dns.rules.answers import Answer, Look, Server, Status
from postern_dns.rules.ownership import expected_value
from postern_dns.settings import DnsSettings

CODE = "a" * 26


class FakeLookup:
    def __init__(self, records=None, status=Status.NO_DATA):
        self.records = records or {}
        self.status = status
        self.asked = []

    async def look(self, name, kind, *, follow=True):
        self.asked.append((name, kind, follow))
        records = self.records.get(name, ())
        status = Status.RECORDS if records else self.status
        return Look(name, "acme.test", (Answer(Server("ns", "192.0.2.1"), status, tuple(records)),))


def test_a_lease_must_outlast_a_look(monkeypatch, capsys):
    monkeypatch.setenv("MONGODB_URI", "mongodb://db.test")
    monkeypatch.setenv("AMQP_URL", "amqp://mq.test/")
    monkeypatch.setenv("POSTERN_DNS_LEASE_SECONDS", "20")
    with pytest.raises(SystemExit):
        load(DnsSettings)
    assert "POSTERN_DNS_LEASE_SECONDS must be more than twice" in capsys.readouterr().err


async def test_a_record_that_is_there_needs_two_questions():
    names = FakeLookup({"acme.test": [expected_value(CODE)]})
    await Inspector(names).ownership("acme.test", CODE)
    assert names.asked == [("acme.test", "TXT", False), ("_postern-challenge.acme.test", "TXT", True)]


async def test_a_missing_record_is_looked_for_at_the_doubled_names():
    names = FakeLookup()
    evidence = await Inspector(names).ownership("acme.test", CODE)
    assert [look.name for look in evidence.doubled] == [
        "acme.test.acme.test",
        "_postern-challenge.acme.test.acme.test",
    ]


async def test_servers_that_fail_are_not_asked_for_doubled_names():
    names = FakeLookup(status=Status.TIMEOUT)
    assert (await Inspector(names).ownership("acme.test", CODE)).doubled == ()
    assert len(names.asked) == 2


async def test_mail_records_are_judged_by_the_settings(monkeypatch):
    for name, value in {
        "MONGODB_URI": "mongodb://db.invalid",
        "AMQP_URL": "amqp://broker.invalid",
        "POSTERN_DNS_OWN_MX_HOSTS": "mx1.postern.example, mx2.postern.example",
        "POSTERN_DNS_SPF_INCLUDE": "spf.postern.example",
    }.items():
        monkeypatch.setenv(name, value)
    settings = DnsSettings()
    names = FakeLookup({"acme.test": ["10 mx2.postern.example"]})
    inspector = Inspector(names, own_mx_hosts=settings.dns_own_mx_hosts, spf_include=settings.dns_spf_include)
    mx, spf = await inspector.mail_records("acme.test")
    assert (mx.state, spf.state) == ("ok", "fail")
    assert "include:spf.postern.example" in spf.explanation
