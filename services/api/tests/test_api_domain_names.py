"""Which domains can be added, and how their records are written."""

import pytest

from postern_api.domains.names import parse_customer_domain, registered_domain, verification_records
from postern_api.domains.service import new_code
from postern_common.errors import Rejected


def parse(text, *, is_production=True):
    return parse_customer_domain(text, is_production=is_production)


@pytest.mark.spec("D5")
@pytest.mark.parametrize(
    "name", ["com", "co.uk", "github.io", "localhost", "a.localhost", "192.0.2.1", "[::1]", "", " ", "a..com", "-a.com",
             "a_b.com", "test", "公司.cn", "x" * 64 + ".com", "foo.invalid", "shop.test", "a.example", "b.onion"],
)  # fmt: skip
def test_names_that_nobody_can_own_are_refused_with_the_reason(name):
    with pytest.raises(Rejected) as refused:
        parse(name)
    assert refused.value.pointer == "/name"
    assert refused.value.code == "invalid-domain"
    assert refused.value.message.startswith("The domain name ")


@pytest.mark.spec("D5")
@pytest.mark.parametrize("name", ["scratch.test", "a.scratch.test", "demo.test", "acme.example", "firm.internal"])
def test_reserved_names_can_be_added_where_tests_run(name):
    assert parse(name, is_production=False).ascii == name


@pytest.mark.spec("D5")
@pytest.mark.parametrize("name", ["acme.com", "ACME.com.", "acme.co.uk", "firm.internal", "a.b.c.acme.github.io"])
def test_names_below_a_suffix_can_be_added(name):
    assert parse(name).ascii == name.lower().removesuffix(".")


@pytest.mark.spec("D1")
def test_a_name_too_long_for_its_challenge_label_is_refused():
    label = "a" * 60
    parse(f"{label}.{label}.{label}.com")
    with pytest.raises(Rejected, match="too long"):
        parse(f"{label}.{label}.{label}.{label}.com")


@pytest.mark.parametrize(
    ("name", "apex", "challenge"),
    [
        ("acme.com", "@", "_postern-challenge"),
        ("eng.acme.com", "eng", "_postern-challenge.eng"),
        ("a.eng.acme.co.uk", "a.eng", "_postern-challenge.a.eng"),
        ("scratch.test", "@", "_postern-challenge"),
        ("x.scratch.test", "x", "_postern-challenge.x"),
    ],
)
@pytest.mark.spec("D1")
def test_case_27_hosts_are_as_a_provider_wants_them_typed(name, apex, challenge):
    first, second = verification_records(name, "code")
    assert (first.host, second.host) == (apex, challenge)
    assert first.zone_line == f'{name}. 300 IN TXT "postern-verification=code"'
    assert second.zone_line == f'_postern-challenge.{name}. 300 IN TXT "postern-verification=code"'
    assert first.value == second.value == "postern-verification=code"


def test_a_suffix_that_the_list_does_not_know_has_one_label():
    assert registered_domain("a.b.scratch.test") == "scratch.test"


@pytest.mark.spec("D1")
def test_codes_are_128_random_bits_in_lower_case_base32():
    codes = {new_code() for _ in range(1000)}
    assert len(codes) == 1000
    assert all(len(code) == 26 and set(code) <= set("abcdefghijklmnopqrstuvwxyz234567") for code in codes)
