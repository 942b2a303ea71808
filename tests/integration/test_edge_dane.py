"""Mail to domains with DANE, by a validating resolver, a signed zone and servers with certificates (RFC 7672).

Each domain below `signed.test` has one mail exchanger, `mx` within it, and shows one case.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from hashlib import sha256

import pytest
import trustme

from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.servers.authority import serving
from tests.servers.edge_inside import InsideEdge
from tests.servers.notices import results, sent, site  # noqa: F401
from tests.servers.signed_zones import signed
from tests.servers.smtp_fake import FakeHop
from tests.servers.zones import ZoneServer


@dataclass
class Case:
    """A domain's exchanger: what it listens at, the TLS that it has, and its TLSA records."""

    address: str
    tls: ssl.SSLContext | None
    records: list[str]


class World:
    """The name servers and the cases."""

    def __init__(self, farm, directory):
        self.port, authoritative_port, self.resolver_port = free_ports(3)
        self.cases = self._make_cases()
        text, key = signed("signed.test", self._zone(), directory / "keys")
        # A record that changed after it was signed: what an attacker could do, and what DNSSEC finds out.
        text = re.sub(r"(?m)(_tcp\.mx\.bogus\b.*(?:\n\s+.*)*?TLSA\s+3 1 1 \(?\s*)([0-9A-F]{2})", r"\g<1>00", text)
        outside = self.cases["outside"].address
        plain = f"@ NS ns1\nns1 A 127.0.0.1\nplain MX 10 mx.match.signed.test.\nmx.outside A {outside}\n"
        plain += f"lure TLSA 3 1 1 {'0' * 64}\n"  # unsigned: anybody on the way could have made it
        zones = {"signed.test": text, "insecure.test": plain}
        authoritative = ZoneServer(directory / "zones", authoritative_port, zones)
        resolver = ZoneServer(
            directory / "resolver",
            self.resolver_port,
            forward_to=dict.fromkeys(zones, authoritative_port),
            trusted={"signed.test": key},
        )
        self.units = [Unit(part, farm.processes) for part in (authoritative, resolver)]
        for unit in self.units:
            unit.start()

    def _make_cases(self):
        authority, other = trustme.CA(), trustme.CA()
        issuer = digest(authority.cert_pem.bytes())
        nothing = "0" * 64

        def case(number, name, records, by=authority):
            tls = serving(by, name)
            return Case(f"127.0.0.{number}", tls, [record.format(own=tls.digest, ca=issuer) for record in records])

        return {
            "match": case(21, "any-name.test", ["3 1 1 {own}"]),
            "mismatch": case(22, "mx.mismatch.signed.test", [f"3 1 1 {nothing}"]),
            "unusable": case(23, "mx.unusable.signed.test", ["1 1 1 {own}", "3 1 9 {own}"]),
            "bogus": case(24, "mx.bogus.signed.test", ["3 1 1 {own}"]),
            "anchor": case(25, "mx.anchor.signed.test", ["2 0 1 {ca}"]),
            "misnamed": case(26, "mx.elsewhere.test", ["2 0 1 {ca}"]),
            "domain": case(27, "domain.signed.test", ["2 0 1 {ca}"]),
            "stranger": case(28, "mx.stranger.signed.test", ["2 0 1 {ca}"], by=other),
            "clear": Case("127.0.0.29", None, [f"3 1 1 {nothing}"]),
            "outside": case(30, "mx.insecure.test", ["3 1 1 {own}"]),
            "none": case(31, "mx.none.signed.test", []),
            # More than fits into one packet.
            "many": case(32, "any-name.test", [*(f"3 1 1 {number:064x}" for number in range(60)), "3 1 1 {own}"]),
        }

    def _zone(self):
        lines = ["$TTL 60", "@ SOA ns1 hostmaster 1 600 60 86400 2", "@ NS ns1", "ns1 A 127.0.0.1"]
        for name, case in self.cases.items():
            lines += [f"{name} MX 10 mx.{name}", f"mx.{name} A {case.address}"]
            lines += [f"_{self.port}._tcp.mx.{name} TLSA {record}" for record in case.records]
        lines += [
            f"hostless A {self.cases['match'].address}",
            f"_{self.port}._tcp.hostless TLSA {self.cases['match'].records[0]}",
            "nick CNAME domain",
            "two MX 10 mx.mismatch",
            "two MX 20 mx.match",
            "alias MX 10 mx.alias",
            "mx.alias CNAME mx.match",
            "away MX 10 mx.away",
            "mx.away CNAME mx.outside.insecure.test.",
            f"_{self.port}._tcp.mx.away TLSA {self.cases['outside'].records[0]}",
            "lured MX 10 mx.lured",
            f"mx.lured A {self.cases['match'].address}",
            f"_{self.port}._tcp.mx.lured CNAME lure.insecure.test.",
            "gone MX 10 mx.gone",
            "mx.gone CNAME mx.mismatch",
            f"_{self.port}._tcp.mx.gone TLSA {self.cases['match'].records[0]}",
        ]
        return "\n".join(lines)


def digest(pem):
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    return sha256(der).hexdigest()


@pytest.fixture(scope="module")
def world(farm, tmp_path_factory):
    made = World(farm, tmp_path_factory.mktemp("dane"))
    yield made
    for unit in made.units:
        unit.stop()


@pytest.fixture
async def exchangers(world):
    """Starts the exchangers of cases."""
    running = []

    async def start(*names):
        for name in names:
            case = world.cases[name]
            running.append(await FakeHop(host=case.address, tls=case.tls).start(world.port))
        return running

    yield start
    for hop in running:
        await hop.stop()


@pytest.fixture
async def edge(mongo_uri, database, vhost, world, site):
    inside = InsideEdge(
        mongo_uri, database, vhost, dns_servers=f"127.0.0.1:{world.resolver_port}", edge_mx_port=world.port
    )
    await inside.seed(site)
    await inside.start()
    yield inside
    await inside.close()


@pytest.mark.spec("R11", "V4")
@pytest.mark.parametrize("case", ["match", "many", "anchor", "domain"])
async def test_mail_goes_to_a_server_that_its_tlsa_records_vouch_for(edge, exchangers, case):
    [hop] = await exchangers(case)
    _, step = await sent(edge, f"{case}.signed.test", "delivered")
    assert hop.messages[0].secure
    assert re.search(r"\(TLSv1\.3 TLS_\w+, dane\): 250", step)
    assert await results(edge, f"{case}.signed.test") == {"tlsa": (1, {})}


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "case,reason,result",
    [
        (
            "mismatch",
            "DANE: the mail server's certificate matches no TLSA record",
            ("certificate-not-trusted", "dane-no-match"),
        ),
        (
            "misnamed",
            "DANE: the mail server's certificate is for another name",
            ("certificate-host-mismatch", "dane-name-mismatch"),
        ),
        (
            "stranger",
            "DANE: the mail server's certificate matches no TLSA record",
            ("certificate-not-trusted", "dane-no-match"),
        ),
        ("clear", "DANE: the mail server offers no TLS, which is required", ("starttls-not-supported", "")),
    ],
)
async def test_mail_waits_where_the_server_is_another_or_has_no_tls(edge, exchangers, case, reason, result):
    [hop] = await exchangers(case)
    reply, _ = await sent(edge, f"{case}.signed.test", "deferred")
    assert reply == reason
    assert (hop.count("MAIL"), hop.connections) == (0, 1)
    assert await results(edge, f"{case}.signed.test") == {"tlsa": (0, {result: 1})}


@pytest.mark.spec("R11")
async def test_records_whose_signature_is_broken_keep_the_server_from_being_asked(edge, exchangers):
    [hop] = await exchangers("bogus")
    reply, _ = await sent(edge, "bogus.signed.test", "deferred")
    assert reply == "DANE: the TLSA records of mx.bogus.signed.test cannot be looked up securely now"
    assert hop.connections == 0
    assert await results(edge, "bogus.signed.test") == {"tlsa": (0, {("dnssec-invalid", "tlsa-lookup-failed"): 1})}


@pytest.mark.spec("R11")
async def test_unusable_records_want_encryption_whoever_answers(edge, exchangers):
    [hop] = await exchangers("unusable")
    _, step = await sent(edge, "unusable.signed.test", "delivered")
    assert hop.messages[0].secure
    assert ", encrypt): 250" in step
    assert await results(edge, "unusable.signed.test") == {"tlsa": (0, {("tlsa-invalid", "no-usable-records"): 1})}
    hop.tls = None
    hop.extensions = ("SIZE 1000000", "8BITMIME")
    await edge.edge.delivery._servers.close()
    reply, _ = await sent(edge, "unusable.signed.test", "deferred")
    assert reply == "DANE: the mail server offers no TLS, which is required"


@pytest.mark.spec("R11")
async def test_a_domain_without_mx_has_its_own_records(edge, exchangers):
    await exchangers("match")
    _, step = await sent(edge, "hostless.signed.test", "delivered")
    assert ", dane): 250" in step


@pytest.mark.spec("R11")
async def test_the_name_that_a_domain_is_a_secure_alias_of_may_stand_in_the_certificate(edge, exchangers):
    await exchangers("domain")
    _, step = await sent(edge, "nick.signed.test", "delivered")  # RFC 7672 3.2.2
    assert ", dane): 250" in step


@pytest.mark.spec("R11")
async def test_the_next_exchanger_is_asked_where_the_best_one_is_not_vouched_for(edge, exchangers):
    best, next_one = await exchangers("mismatch", "match")
    await sent(edge, "two.signed.test", "delivered")
    assert (len(best.messages), len(next_one.messages)) == (0, 1)


@pytest.mark.spec("R11")
@pytest.mark.parametrize("domain,case", [("alias", "match"), ("away", "outside")])
async def test_records_are_found_at_the_end_of_a_secure_alias_and_else_at_its_begin(edge, exchangers, domain, case):
    [hop] = await exchangers(case)
    asked_for = []
    hop.tls.sni_callback = lambda _connection, name, _context: asked_for.append(name)
    _, step = await sent(edge, f"{domain}.signed.test", "delivered")
    hop.tls.sni_callback = None
    assert ", dane): 250" in step
    assert asked_for == ["mx.match.signed.test" if case == "match" else "mx.away.signed.test"]  # RFC 7672 8.1


@pytest.mark.spec("R11")
async def test_records_at_the_end_of_a_secure_alias_come_before_those_at_its_begin(edge, exchangers):
    await exchangers("mismatch")
    reply, _ = await sent(edge, "gone.signed.test", "deferred")
    assert reply == "DANE: the mail server's certificate matches no TLSA record"


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "domain,case", [("none.signed.test", "none"), ("plain.insecure.test", "match"), ("lured.signed.test", "match")]
)
async def test_without_secure_records_tls_is_opportunistic(edge, exchangers, domain, case):
    [hop] = await exchangers(case)
    _, step = await sent(edge, domain, "delivered")
    assert hop.messages[0].secure
    assert ", opportunistic): 250" in step
    assert await results(edge, domain) == {"no-policy-found": (1, {})}


@pytest.mark.spec("R11")
async def test_a_resolver_that_is_not_trusted_to_validate_makes_nothing_secure(
    mongo_uri, database, vhost, world, site, exchangers
):
    await exchangers("mismatch")
    edge = InsideEdge(
        mongo_uri,
        database,
        vhost,
        dns_servers=f"127.0.0.1:{world.resolver_port}",
        edge_mx_port=world.port,
        edge_dns_validates=False,
    )
    await edge.seed(site)
    await edge.start()
    _, step = await sent(edge, "mismatch.signed.test", "delivered")
    assert ", opportunistic): 250" in step
    await edge.close()


@pytest.mark.spec("R11")
async def test_a_connection_that_dane_vouched_for_serves_the_next_message_too(edge, exchangers):
    [hop] = await exchangers("match")
    for _ in range(2):
        _, step = await sent(edge, "match.signed.test", "delivered")
        assert ", dane): 250" in step
    assert hop.connections == 1
    assert await results(edge, "match.signed.test") == {"tlsa": (1, {})}  # sessions are counted, not messages


@pytest.mark.spec("R11")
@pytest.mark.parametrize("case", ["match", "mismatch", "anchor", "misnamed", "stranger"])
async def test_openssl_comes_to_the_same_verdict(edge, exchangers, world, case):
    [hop] = await exchangers(case)
    # RFC 7672 3.1.1: with DANE-EE names do not count.
    command = ["openssl", "s_client", "-starttls", "smtp", "-connect", f"{hop.host}:{hop.port}"]
    command += ["-verify_return_error", "-dane_tlsa_domain", f"mx.{case}.signed.test", "-dane_ee_no_namechecks"]
    for record in world.cases[case].records:
        command += ["-dane_tlsa_rrdata", record]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 20)
    is_good = b"Verification: OK" in said
    assert is_good == (case in {"match", "anchor"})
    await sent(edge, f"{case}.signed.test", "delivered" if is_good else "deferred")
