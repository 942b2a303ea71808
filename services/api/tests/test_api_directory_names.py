"""Names and filters in a directory's settings, judged without asking the directory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_api.directory.rules.graph_filter import fault_of
from postern_api.directory.rules.ldap_names import is_attribute, is_dn


@pytest.mark.spec("L1")
@pytest.mark.parametrize(
    "text",
    [
        "dc=acme,dc=com", "DC=acme, DC=com", "UID=jsmith,DC=example,DC=net", "OU=Sales+CN=J.  Smith,DC=example,DC=net",
        r"CN=James \"Jim\" Smith\, III,DC=example,DC=net", r"CN=Before\0dAfter,DC=example,DC=net",
        "1.3.6.1.4.1.1466.0=#04024869", r"CN=Lu\C4\8Di\C4\87", "CN=Lučić,O=Käse & Co", "ou=", "ou=a=b",
        r"cn=a\+b\<c\>d\;e\#f\=g\ ",
    ],
)  # fmt: skip
def test_distinguished_names_of_the_standard_are_taken(text):
    assert is_dn(text)


@pytest.mark.spec("L1")
@pytest.mark.parametrize(
    "text",
    ["", "acme.com", "dc", "=x", "dc=acme,", ",dc=acme", "dc=acme;dc=com", 'o="Acme, Inc"', "dc=a\\", "dc=a\\zz",
     "d c=acme", "9=x", "dc=acme,,dc=com", "dc=a\0b", "dc=acme dc=com,"],
)  # fmt: skip
def test_what_is_no_distinguished_name_is_refused(text):
    assert not is_dn(text)


@pytest.mark.spec("S6")
def test_attributes_have_names_oids_and_options():
    for name in ("mail", "msDS-cloudExtensionAttribute1", "2.5.4.3", "cn;lang-de", "userCertificate;binary"):
        assert is_attribute(name)
    for name in ("", "a b", "1mail", "2.", "2.05", "mail)", "mail;", "(mail=*", "ä", "m" * 101):
        assert not is_attribute(name)


@given(st.text(max_size=60))
def test_any_text_is_judged(text):
    assert is_dn(text) in {True, False}
    assert is_attribute(text) in {True, False}
    assert fault_of(text) is None or fault_of(text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30))
def test_any_value_in_quotes_is_a_value(value):
    quoted = value.replace("'", "''")
    assert fault_of(f"department eq '{quoted}'") is None


@pytest.mark.spec("S11")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("department eq 'Sales", "quote"), ("(a eq 1", "not closed"), ("a eq 1)", "never opened"),
        ("Sales", "comparison"),
        ("$filter=a eq 1", "without $filter"), ("a eq 'x'\n", "control"), ("", "comparison"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_graph_filter_is_named(text, words):
    assert words in str(fault_of(text))
