"""Ownership looks at real name servers: each reason of the contract is produced by a server that behaves so."""

import asyncio
import time
from datetime import UTC, datetime
from ipaddress import ip_network

import dns.asyncresolver
import dns.resolver
import pytest

from postern_common.addresses import parse_domain
from postern_common.netguard import NetGuard
from postern_dns.adapters.resolver import Limits, Resolver, configured_resolvers
from postern_dns.inspection import Inspector
from postern_dns.rules.answers import Status
from postern_dns.rules.ownership import expected_value, judge
from postern_local.nameserver import Nameserver
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.servers.zones import ZoneServer, relay, silent_server

CODE = "mfzwizltoq2gk3tumfzwizltoq"
VALUE = expected_value(CODE)
FIRST, SECOND, SILENT, OLD, LOSSY = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.5", "127.0.0.6"
NS = "@ NS ns1\nns1 A 127.0.0.1\n"
TWO = f"{NS}@ NS ns2\nns2 A 127.0.0.2\n"
THREE = f"{TWO}@ NS ns3\nns3 A 127.0.0.3\n"

FIRST_ZONES = {
    "plain.test": f'{NS}@ TXT "{VALUE}"\n',
    "label.test": f'{NS}_postern-challenge TXT "{VALUE}"\n@ TXT "v=spf1 -all"\n@ MX 10 mx.label.test.\n',
    "xn--bcher-kva.test": f'{NS}_postern-challenge TXT "{VALUE}"\n',
    "split.test": f'{NS}@ TXT "postern-verification=" "{CODE[:5]}" "{CODE[5:]}"\n',
    "quoted.test": f'{NS}@ TXT "\\"{VALUE}\\""\n',
    "none.test": f"{NS}a A 192.0.2.1\n",
    "other.test": f'{NS}@ TXT "postern-verification=somebodyelsescodeaaaaaaaaa"\n@ TXT "v=spf1 -all"\n',
    "wild.test": f'{NS}* TXT "{VALUE}"\n@ TXT "x"\n',
    "many.test": NS + "".join(f'@ TXT "filler {n} {"x" * 60}"\n' for n in range(41)) + f'@ TXT "{VALUE}"\n',
    "double.test": f'{NS}double.test TXT "{VALUE}"\n',
    "sub.test": f'{NS}_postern-challenge.eng.sub.test TXT "{VALUE}"\neng A 192.0.2.1\n',
    "alias.test": f"{NS}shop CNAME shops.provider.test.\n",
    "labelled.test": f'{NS}shop CNAME shops.provider.test.\n_postern-challenge.shop TXT "{VALUE}"\n',
    "provider.test": f"{NS}shops A 192.0.2.7\n",
    "pointing.test": f"{NS}_postern-challenge CNAME d1.verify.test.\n",
    "verify.test": f'{NS}d1 CNAME d2\nd2 TXT "{VALUE}"\n',
    "loop.test": f"{NS}_postern-challenge CNAME a\na CNAME b\nb CNAME a\n",
    "delegated.test": f"{NS}_postern-challenge NS ns.elsewhere.test.\n",
    "elsewhere.test": f"{NS}ns A 127.0.0.2\n",
    "costly.test": f'{NS}@ TXT "v=spf1 include:five.spf.test include:six.spf.test -all"\n',
    "within.test": f'{NS}@ TXT "v=spf1 include:five.spf.test mx -all"\n'
    + "".join(f"@ MX 10 mx{n}\nmx{n} A 192.0.2.{n}\n" for n in range(1, 5)),
    "failing.test": f'{NS}@ TXT "v=spf1 include:five.spf.test include:broken.test -all"\n',
    "spf.test": f'{NS}five TXT "v=spf1 a:h.spf.test a:h.spf.test a:alias.spf.test exists:h.spf.test -all"\n'
    'six TXT "v=spf1 include:five.spf.test -all"\nh A 192.0.2.1\nalias CNAME h\n',
    "broken.test": None,
    "partial.test": f'{TWO}@ TXT "{VALUE}"\n',
    "agreed.test": f'{THREE}@ TXT "{VALUE}"\n',
    "parent.test": f"{NS}mute NS ns1.mute\nns1.mute A 127.0.0.3\n",
    "old.test": f'@ NS ns1\nns1 A 127.0.0.5\n@ TXT "{VALUE}"\n',
    "lossy.test": f'@ NS ns1\nns1 A 127.0.0.6\n@ TXT "{VALUE}"\n',
    "lost.test": "@ NS ns.nowhere.invalid.\n",
    "lame.test": "@ NS ns1\nns1 A 127.0.0.2\n",
    "inside.test": f'@ NS ns1\nns1 A 10.1.2.3\n@ TXT "{VALUE}"\n',
}
SECOND_ZONES = {
    "partial.test": TWO,
    "agreed.test": f'{THREE}@ TXT "{VALUE}"\n',
    "_postern-challenge.delegated.test": f'@ NS ns.elsewhere.test.\n@ TXT "{VALUE}"\n',
}


@pytest.fixture(scope="module")
def port(farm):
    """The port of two name servers, and of a silent one."""
    number, behind = free_ports(2)
    parts = [
        ZoneServer(farm.directory / "zones-1", number, FIRST_ZONES),
        ZoneServer(farm.directory / "zones-2", behind, SECOND_ZONES),
    ]
    units = [Unit(part, farm.processes) for part in parts]
    for unit in units:
        unit.start()
    with (
        silent_server(SILENT, number),
        relay(SECOND, number, behind),
        relay(OLD, number, number, edns=False),
        relay(LOSSY, number, number, lossy=True),
    ):
        yield number
    for unit in units:
        unit.stop()


def resolver(port, *, at=None, allow="127.0.0.0/8", limits=None):
    guard = NetGuard([ip_network(allow)] if allow else [])
    servers = configured_resolvers([f"127.0.0.1:{at or port}"])
    return Resolver(servers, guard, port=port, limits=limits or Limits(1.0, 8.0))


async def verdict(port, domain, **options):
    evidence = await Inspector(resolver(port, **options)).ownership(domain, CODE)
    return judge(evidence, CODE, now=datetime.now(UTC))


@pytest.mark.spec("D1", "D6")
@pytest.mark.parametrize(
    "domain",
    ["plain.test", "label.test", "wild.test", "pointing.test", "delegated.test", "labelled.test", "many.test"],
)
async def test_the_record_is_found_wherever_and_however_it_is_published(port, domain):
    found = await verdict(port, f"shop.{domain}" if domain == "labelled.test" else domain)
    assert (found.outcome, found.reason) == ("match", "verified"), found.explanation
    assert VALUE in found.found


@pytest.mark.spec("D6")
@pytest.mark.parametrize("domain", ["split.test", "quoted.test"])
async def test_case_31_split_and_quoted_strings_of_a_real_zone_match(port, domain):
    assert (await verdict(port, domain)).reason == "verified"


@pytest.mark.spec("D5")
@pytest.mark.parametrize("spelling", ["bücher.test", "xn--bcher-kva.test", "BÜCHER.test.", "XN--BCHER-KVA.TEST"])
async def test_case_32_every_spelling_of_an_international_domain_is_the_same_zone(port, spelling):
    assert (await verdict(port, parse_domain(spelling).ascii)).reason == "verified"


async def test_a_domain_too_long_for_the_challenge_label_can_still_be_asked(port):
    found = await verdict(port, ".".join(["a" * 60] * 4) + ".none.test"[: 253 - 243])
    assert found.reason == "nxdomain"


@pytest.mark.spec("D2", "D3")
@pytest.mark.parametrize(
    "domain, outcome, reason",
    [
        ("none.test", "absent", "no_txt"),
        ("nobody.none.test", "absent", "nxdomain"),
        ("other.test", "mismatch", "txt_present_no_match"),
        ("double.test", "mismatch", "found_at_doubled_name"),
        ("broken.test", "cannot_tell", "servfail_or_dnssec_bogus"),
        ("unserved.test", "cannot_tell", "refused"),
        ("lame.test", "cannot_tell", "refused"),
        ("mute.parent.test", "cannot_tell", "timeout"),
        ("shop.alias.test", "cannot_tell", "cname_at_name"),
        ("loop.test", "cannot_tell", "servfail_or_dnssec_bogus"),
        ("partial.test", "cannot_tell", "partial_propagation"),
    ],
)
async def test_every_other_outcome_is_told_apart(port, domain, outcome, reason):
    found = await verdict(port, domain)
    assert (found.outcome, found.reason) == (outcome, reason), found.explanation
    assert found.servers
    assert domain in found.explanation


async def test_case_27_the_hint_for_a_doubled_name_uses_the_zone_cut(port):
    found = await verdict(port, "eng.sub.test")
    assert found.reason == "found_at_doubled_name"
    assert "_postern-challenge.eng.sub.test.sub.test" in found.explanation
    assert "host to type is _postern-challenge.eng." in found.explanation


async def test_case_28_a_domain_that_is_a_cname_is_told_of_the_underscore_label(port):
    found = await verdict(port, "shop.alias.test")
    assert "shops.provider.test" in found.explanation
    assert "_postern-challenge.shop.alias.test" in found.explanation


async def test_case_29_a_wildcard_with_a_code_of_somebody_else_proves_nothing(port):
    evidence = await Inspector(resolver(port)).ownership("wild.test", "b" * 26)
    assert judge(evidence, "b" * 26, now=datetime.now(UTC)).reason == "txt_present_no_match"


@pytest.mark.spec("D3")
async def test_all_servers_are_asked_and_most_of_them_decide(port):
    found = await verdict(port, "agreed.test")
    assert found.reason == "verified"
    assert {(row["address"], row["reason"]) for row in found.servers} == {
        (FIRST, "verified"),
        (SECOND, "verified"),
        (SILENT, "timeout"),
    }


async def test_a_silent_server_costs_its_own_time_only(port):
    before = time.monotonic()
    await verdict(port, "agreed.test")
    assert time.monotonic() - before < 3


async def test_one_look_is_bounded_as_a_whole(port):
    before = time.monotonic()
    found = await verdict(port, "mute.parent.test", limits=Limits(5.0, 0.5))
    assert found.reason == "timeout"
    assert time.monotonic() - before < 2


@pytest.mark.spec("R12")
async def test_name_servers_at_inside_addresses_are_not_asked(port):
    found = await verdict(port, "inside.test")
    assert (found.outcome, found.reason) == ("cannot_tell", "refused")
    assert "not public" in found.explanation
    found = await verdict(port, "plain.test", allow=None)
    assert found.reason == "refused"
    assert [row["address"] for row in found.servers] == [FIRST]


async def test_without_an_authoritative_server_the_resolver_answers_and_says_how_old_it_may_be(port):
    found = await verdict(port, "lost.test")
    assert (found.outcome, found.reason) == ("absent", "no_txt")
    assert "cached until" in found.explanation
    assert [row["name"] for row in found.servers] == ["configured resolver"]
    assert FIRST not in found.explanation


async def test_answers_too_long_for_udp_come_by_tcp(port):
    look = await resolver(port).look("many.test", "TXT")
    assert len(look.records()) == 42


@pytest.mark.parametrize("domain, address", [("old.test", OLD), ("lossy.test", LOSSY)])
async def test_old_servers_without_edns_and_lost_questions_are_asked_again(port, domain, address):
    found = await verdict(port, domain)
    assert found.reason == "verified"
    assert found.servers == ({"name": f"ns1.{domain}", "address": address, "reason": "verified"},)


async def test_mail_records_are_read_from_the_same_servers(port):
    looked = await resolver(port).look("label.test", "MX")
    assert looked.agreed() == ("10 mx.label.test",)
    mx, spf = await Inspector(resolver(port), own_mx_hosts=["mx.label.test"]).mail_records("label.test")
    assert (mx.state, spf.state) == ("ok", "ok")
    mx, spf = await Inspector(resolver(port)).mail_records("broken.test")
    assert (mx.state, spf.state) == ("cannot_tell", "cannot_tell")


@pytest.mark.spec("D4")
async def test_case_37_the_look_ups_of_an_spf_record_are_counted_at_real_servers(port):
    inspector = Inspector(resolver(port))
    _, costly = await inspector.mail_records("costly.test")
    assert (costly.state, "takes 11 DNS look-ups" in costly.explanation) == ("fail", True)
    assert "include:five.spf.test 5, include:six.spf.test 6." in costly.explanation
    _, within = await inspector.mail_records("within.test")
    assert (within.state, within.explanation) == ("ok", "The SPF record of within.test is in order.")
    _, failing = await inspector.mail_records("failing.test")
    assert (failing.state, failing.is_told) == ("cannot_tell", False)
    assert failing.explanation.endswith("just now: broken.test.")


async def test_a_resolver_that_is_not_there_cannot_tell():
    closed = free_ports(1)[0]
    look = await resolver(closed, limits=Limits(0.4, 3.0)).look("plain.test", "TXT")
    assert look.zone is None
    assert look.failure in {Status.TIMEOUT, Status.UNREACHABLE}


async def test_a_silent_resolver_costs_its_time_once(port):
    servers = configured_resolvers([f"{SILENT}:{port}", f"127.0.0.1:{port}"])
    asking = Resolver(servers, NetGuard([ip_network("127.0.0.0/8")]), port=port, limits=Limits(1.0, 8.0))
    await asking.look("plain.test", "TXT")
    before = time.monotonic()
    assert (await asking.look("plain.test", "TXT")).is_definite
    assert time.monotonic() - before < 1


@pytest.mark.spec("D2", "D3")
async def test_case_30_a_record_added_after_a_cached_negative_answer_is_found_at_the_next_click(farm):
    number, caching = free_ports(2)
    main = Nameserver(farm.directory / "case-30", number, farm.keys.tsig_key, ("cached.test",), "named-case-30")
    main.directory.mkdir()
    zone = f"$ORIGIN cached.test.\n$TTL 2\n@ SOA ns1 hostmaster 1 600 60 86400 1800\n{NS}"
    (main.directory / "cached.test").write_text(zone)
    cache = ZoneServer(farm.directory / "case-30-cache", caching, forward_to={"cached.test": number})
    with Unit(main, farm.processes).running(), Unit(cache, farm.processes).running():
        asking = dns.asyncresolver.Resolver(configure=False)
        asking.nameservers, asking.port = [FIRST], caching
        with pytest.raises(dns.resolver.NXDOMAIN):
            await asking.resolve("_postern-challenge.cached.test", "TXT")
        assert (await verdict(number, "cached.test", at=caching)).reason == "no_txt"
        await asyncio.to_thread(main.update, "_postern-challenge.cached.test", "TXT", [VALUE])
        with pytest.raises(dns.resolver.NXDOMAIN):  # the cache keeps its negative answer: this is the trap
            await asking.resolve("_postern-challenge.cached.test", "TXT")
        assert (await verdict(number, "cached.test", at=caching)).reason == "verified"
