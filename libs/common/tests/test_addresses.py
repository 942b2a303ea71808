"""Names and addresses: what is one and the same, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_common.addresses import address_key, parse_address, parse_domain, strip_detail
from postern_common.errors import Rejected


@pytest.mark.spec("D5")
@pytest.mark.parametrize(
    "text", ["bücher.test", "xn--bcher-kva.test", "BÜCHER.test.", "XN--BCHER-KVA.TEST", " bücher.test "]
)
def test_case_32_all_spellings_of_one_international_domain_are_one(text):
    domain = parse_domain(text)
    assert (domain.ascii, domain.unicode) == ("xn--bcher-kva.test", "bücher.test")


@pytest.mark.spec("D5")
def test_case_33_sharp_s_is_not_folded_to_ss():
    assert parse_domain("faß.test").ascii == "xn--fa-hia.test"
    assert parse_domain("fass.test").ascii == "fass.test"


@pytest.mark.spec("D5")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("xn--sw8hj0a.ws", "not a valid international domain name"),
        ("192.0.2.1", "IP address"),
        ("[192.0.2.1]", "IP address"),
        ("2001:db8::1", "IP address"),
        ("localhost", "localhost"),
        ("mail.localhost", "localhost"),
        ("com", "only one label"),
        ("", "empty"),
        (".", "empty"),
        ("a..b", "malformed label"),
        ("-a.com", "malformed label"),
        ("a-.com", "malformed label"),
        ("a_b.com", "malformed label"),
        ("exa mple.com", "malformed label"),
        ("a" * 64 + ".com", "longer than 63 octets"),
        ("https://example.com", "is a URL; give the name only"),
        ("ann@example.com", "give the part behind the @"),
        ("*.example.com", "holds a"),
        (".".join(["a" * 60] * 5), "longer than 253"),
        ("example.123", "ends in a number"),
    ],
)
def test_what_is_no_domain_is_refused_with_the_reason(text, reason):
    with pytest.raises(Rejected, match=reason) as refused:
        parse_domain(text, pointer="/name")
    assert refused.value.code == "invalid-domain"
    assert refused.value.pointer == "/name"


@pytest.mark.spec("U4")
@pytest.mark.parametrize("text", ["Some.User@Domain.Test", "some.user@domain.test", "SOME.USER@DOMAIN.TEST."])
def test_case_17_an_address_keeps_its_spelling_and_compares_folded(text):
    address = parse_address(text)
    assert address.key == "some.user@domain.test"
    assert address.local == text.partition("@")[0]


@pytest.mark.spec("U4")
def test_case_15_an_apostrophe_is_allowed():
    assert parse_address("o'brien@d.test").key == "o'brien@d.test"


@pytest.mark.spec("U4")
def test_needless_quotes_do_not_make_another_mailbox():
    assert address_key('"ann"', "d.test") == address_key("Ann", "D.Test")
    assert address_key("Zoe\u0308", "d.test") == address_key("zo\u00eb", "d.test")


@pytest.mark.spec("U4")
@pytest.mark.parametrize(
    "text",
    [
        "", "@", "a@", "@d.test", "a", "a b@d.test", "a@d..test", "a..b@d.test", ".a@d.test", "a.@d.test", "a@1.2.3.4",
        "a@d.test\r\nRCPT TO:<x@y.test>", "a\r\n@d.test", "a\x00@d.test", '"@d.test', '""@d.test', "x" * 65 + "@d.test",
        "a,b@d.test", "<a@d.test>", "a\x7fb@d.test",
    ],
)  # fmt: skip
def test_case_55_what_is_no_address_is_refused(text):
    with pytest.raises(Rejected):
        parse_address(text)


@given(st.text(max_size=80))
def test_any_text_gives_an_address_or_a_refusal(text):
    try:
        address = parse_address(text)
    except Rejected:
        return
    assert parse_address(str(address)).key == address.key
    assert not any(char in str(address) for char in "\r\n\x00")


@given(st.text(max_size=80))
def test_any_text_gives_a_domain_or_a_refusal_and_parsing_is_stable(text):
    try:
        domain = parse_domain(text)
    except Rejected:
        return
    assert parse_domain(domain.ascii) == domain
    assert parse_domain(domain.unicode).ascii == domain.ascii


@pytest.mark.spec("U4")
@pytest.mark.parametrize(
    ("local", "plain"), [("ann+news", "ann"), ("ann", "ann"), ("+x", "+x"), ("a+b+c", "a"), ("+", "+")]
)
def test_plus_tags_are_taken_off(local, plain):
    assert strip_detail(local) == plain
