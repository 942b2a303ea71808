"""What an SPF record costs in look-ups, over zones that are plain tables (CASES 3.3 case 37, RFC 7208 4.6.4)."""

import asyncio

import pytest

from postern_dns.inspection import Inspector
from postern_dns.rules import spf
from postern_dns.rules.answers import Answer, Look, Server, Status
from postern_dns.rules.spf_record import BadTerm, effective, parse

pytestmark = pytest.mark.spec("D4")
SERVER = Server("ns1.acme.test", "192.0.2.1")


class Zones:
    """Names with their records by type, or the way in which their servers fail; counts what it is asked."""

    def __init__(self, zones):
        self.zones = zones
        self.asked = []

    def answer(self, name, kind):
        self.asked.append((name, kind))
        zone = self.zones.get(name, Status.NXDOMAIN)
        if isinstance(zone, str) and not isinstance(zone, Status):
            zone = {"TXT": [zone]}
        found = zone if isinstance(zone, Status) else zone.get(kind, Status.NO_DATA)
        if isinstance(found, Status):
            return Look(name, "acme.test", (Answer(SERVER, found),))
        return Look(name, "acme.test", (Answer(SERVER, Status.RECORDS, tuple(found)),))


def judged(zones, include=""):
    world = zones if isinstance(zones, Zones) else Zones(zones)
    own, answers = world.answer("acme.test", "TXT"), {}
    while asked := spf.questions(own, answers):
        answers |= {question: world.answer(*question) for question in asked}
    return spf.judge(own, include, answers)


def includes(*names, end="-all"):
    return " ".join(["v=spf1", *(f"include:{name}" for name in names), end])


def hosts(count):
    return {"MX": [f"10 mx{number}.acme.test" for number in range(count)]}


FOUR = {name: {"A": ["192.0.2.9"]} for name in ("a.test", "b.test", "c.test", "d.test")}
A4 = "a:a.test a:b.test a:c.test a:d.test"


def test_case_37_four_mx_hosts_without_ipv6_addresses_cost_one_term_and_no_void():
    world = Zones({"acme.test": {"TXT": ["v=spf1 mx ~all"], **hosts(4)}})
    world.zones |= {f"mx{number}.acme.test": {"A": ["192.0.2.9"]} for number in range(4)}
    found = judged(world)
    assert (found.state, found.explanation) == ("ok", "The SPF record of acme.test is in order.")
    assert world.asked == [("acme.test", "TXT"), ("acme.test", "MX")]


@pytest.mark.parametrize("count, state", [(10, "ok"), (11, "fail")])
def test_case_37_the_hosts_of_one_mx_term_have_a_limit_of_their_own(count, state):
    found = judged({"acme.test": "v=spf1 mx:mail.test -all", "mail.test": hosts(count)})
    assert found.state == state
    assert ("mx:mail.test finds 11 mail hosts of at most 10" in found.explanation) == (state == "fail")


def test_case_37_the_hosts_of_several_mx_terms_are_not_added_up():
    zones = {"acme.test": "v=spf1 mx:x.test mx:y.test mx:z.test -all"}
    assert judged(zones | dict.fromkeys(("x.test", "y.test", "z.test"), hosts(9))).state == "ok"


@pytest.mark.parametrize("last, state", [("ip4:192.0.2.1", "ok"), ("a:d.test", "fail")])
def test_case_37_nested_includes_pass_at_ten_terms_and_fail_at_eleven(last, state):
    zones = FOUR | {
        "acme.test": includes("one.test", "two.test"),
        "one.test": f"v=spf1 {A4} -all",
        "two.test": f"v=spf1 include:three.test {last} -all",
        "three.test": "v=spf1 a:a.test a:b.test ptr ?all",
    }
    found = judged(zones)
    assert found.state == state
    assert ("takes 11 DNS look-ups" in found.explanation) == (state == "fail")
    assert ("include:one.test 5, include:two.test 6." in found.explanation) == (state == "fail")


def test_case_37_what_is_included_twice_costs_twice_and_is_asked_once():
    world = Zones(FOUR | {"acme.test": includes("one.test", "one.test", "one.test"), "one.test": f"v=spf1 {A4} -all"})
    assert "takes 15 DNS look-ups" in judged(world).explanation
    assert world.asked.count(("one.test", "TXT")) == 1


def test_case_37_terms_behind_all_and_a_redirect_beside_it_cost_nothing():
    zones = {"acme.test": "v=spf1 redirect=r.test -all exists:x.test", "r.test": "v=spf1 -all"}
    world = Zones(zones)
    assert judged(world).state == "ok"
    assert world.asked == [("acme.test", "TXT")]


def test_case_37_a_redirect_is_followed_and_its_terms_are_about_its_own_name():
    world = Zones(
        FOUR | {"acme.test": "v=spf1 redirect=a.test", "a.test": {"TXT": ["v=spf1 a -all"], "A": ["192.0.2.9"]}}
    )
    assert judged(world).state == "ok"
    assert world.asked[1:] == [("a.test", "TXT"), ("a.test", "A")]


@pytest.mark.parametrize("last", ["include:acme.test", "include:one.test", "redirect=one.test"])
def test_case_37_a_loop_ends_and_is_told(last):
    end = "" if last.startswith("redirect") else "-all"
    found = judged({"acme.test": includes("one.test"), "one.test": f"v=spf1 {last} {end}"})
    assert (found.state, f"{last} leads back" in found.explanation) == ("fail", True)


def test_case_37_a_hostile_record_is_walked_to_thirty_terms_and_sixty_questions():
    wide = {f"n{number}.test": includes(*(f"n{number}{digit}.test" for digit in range(10))) for number in range(1000)}
    world = Zones(wide | {"acme.test": includes(*(f"n{number}.test" for number in range(10)))})
    found = judged(world)
    assert (found.state, "takes more than 30 DNS look-ups" in found.explanation) == ("fail", True)
    assert len(world.asked) == 31
    voids = Zones({"acme.test": "v=spf1 " + " ".join(f"a:n{number}.test" for number in range(500)) + " -all"})
    assert judged(voids).state == "fail"
    assert len(voids.asked) == 61


@pytest.mark.parametrize(
    "terms, state",
    [
        ("a:gone.test mx:gone.test", "ok"),
        ("a:gone.test mx:gone.test exists:gone.test", "warn"),
        ("a:gone.test mx:gone.test a:six.test", "ok"),
        ("a:gone.test mx:gone.test exists:six.test", "warn"),
    ],
)
def test_case_37_two_terms_may_find_nothing_and_three_warn(terms, state):
    zones = {"acme.test": f"v=spf1 {terms} -all", "six.test": {"AAAA": ["2001:db8::1"]}}
    found = judged(zones)
    assert found.state == state
    assert ("3 terms" in found.explanation and terms.replace(" ", ", ") in found.explanation) == (state == "warn")


def test_case_37_a_warning_of_the_record_itself_is_told_with_that_of_its_voids():
    found = judged({"acme.test": "v=spf1 a:x.test a:y.test a:z.test -all"}, "spf.postern.example")
    assert found.state == "warn"
    assert "include:spf.postern.example is missing" in found.explanation
    assert "a:x.test, a:y.test, a:z.test" in found.explanation


@pytest.mark.parametrize("status", [Status.SERVFAIL, Status.TIMEOUT, Status.REFUSED, Status.FORBIDDEN, Status.CNAME])
@pytest.mark.parametrize("more", ["", A4 + " " + A4 + " " + A4, "include:none.test"])
def test_case_37_a_server_that_fails_in_a_nested_include_is_no_verdict(status, more):
    zones = FOUR | {
        "acme.test": f"v=spf1 include:one.test {more} -all",
        "one.test": includes("two.test"),
        "two.test": status,
    }
    found = judged(zones)
    assert (found.state, found.is_told) == ("cannot_tell", False)
    assert "looked up just now: two.test." in found.explanation
    assert found.found == (zones["acme.test"],)


@pytest.mark.parametrize(
    "record, says",
    [
        (Status.NXDOMAIN, "include:one.test leads to no SPF record"),
        ("something else", "include:one.test leads to no SPF record"),
        ({"TXT": ["v=spf1 -all", "v=spf1 mx -all"]}, "include:one.test leads to 2 SPF records"),
        ("v=spf1 ipv4:192.0.2.1 -all", "include:one.test leads to a record with the invalid term ipv4:192.0.2.1"),
    ],
)
def test_case_37_an_include_that_receivers_cannot_evaluate_fails(record, says):
    found = judged({"acme.test": includes("one.test"), "one.test": record})
    assert (found.state, says in found.explanation) == ("fail", True)


def test_case_37_macros_are_counted_and_not_followed():
    world = Zones({"acme.test": "v=spf1 exists:%{i}._spf.acme.test include:%{d2}.spf.test -all"})
    found = judged(world)
    assert found.state == "ok"
    assert "Counted but not followed, as they depend on the message: exists:%{i}._spf.acme.test, " in found.explanation
    assert world.asked == [("acme.test", "TXT")]
    many = " ".join(f"exists:%{{i}}.{number}.acme.test" for number in range(11))
    assert "takes 11 DNS look-ups" in judged({"acme.test": f"v=spf1 {many} -all"}).explanation


@pytest.mark.parametrize(
    "term",
    [
        *(
            "all:x.test",
            "--all",
            "include",
            "include:",
            "include:one",
            "include:a..123",
            "exists",
            "ptr:",
            "a:",
            "a/33",
        ),
        *(
            "mx//129",
            "ip4:192.0.2",
            "ip4:192.0.2.1/33",
            "ip4:::1",
            "ip6:192.0.2.1",
            "ip6:2001:db8::1/129",
            "ipv4:192.0.2.1",
        ),
        *("a:%{x}.test", "a:%x.test", "redirect=", "-redirect=a.test", "redirect:a.test", "exp=%", "x=%{", "1x=y", "ä"),
        *("redirect=a.test redirect=b.test", "mx\ta", "include=one.test:%"),
    ],
)
def test_a_term_that_the_syntax_does_not_know_spoils_the_record(term):
    with pytest.raises(BadTerm):
        parse(f"v=spf1 {term} -all")
    found = judged({"acme.test": f"v=spf1 mx -all {term}"})
    assert (found.state, "invalid term" in found.explanation) == ("fail", True)


@pytest.mark.parametrize(
    "term",
    [
        *(
            "a",
            "A:Acme.Test.",
            "a/24",
            "a//64",
            "a:acme.test/24//64",
            "+mx",
            "?ptr",
            "ptr:acme.test",
            "ip4:192.0.2.0/24",
        ),
        *(
            "ip6:2001:DB8::/32",
            "~exists:%{ir}.%{v}._spf.%{d2}",
            "include:_spf.acme.test",
            "exp=e.acme.test",
            "x-y=%{s}%%",
        ),
        *("redirect=_spf.acme.test", "a=b", "include:%{l1r+-}.acme.co-m"),
    ],
)
def test_every_term_of_the_syntax_is_understood(term):
    assert [found.text for found in parse(f"V=SPF1  {term}  -all ")] == [term.lower(), "-all"]


def test_a_modifier_with_the_name_of_a_mechanism_is_no_mechanism():
    assert [term.name for term in effective(parse("v=spf1 a=b all=c mx"))] == ["a=", "all=", "mx"]


def test_terms_are_shown_at_a_length_that_can_be_read():
    found = judged({"acme.test": f"v=spf1 {'x' * 5000} -all"})
    assert len(found.explanation) < 300


async def test_case_37_one_domain_has_one_time_limit_and_running_out_of_it_is_no_verdict():
    class Slow(Zones):
        async def look(self, name, kind, *, follow=True):
            if name == "two.test":
                await asyncio.sleep(60)
            return self.answer(name, kind)

    zones = {"acme.test": includes("one.test", "two.test"), "one.test": "v=spf1 -all"}
    _, found = await Inspector(Slow(zones), spf_seconds=0.05).mail_records("acme.test")
    assert (found.state, found.is_told) == ("cannot_tell", False)
    assert "looked up just now: two.test." in found.explanation
