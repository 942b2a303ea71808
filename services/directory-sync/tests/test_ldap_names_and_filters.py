"""Distinguished names in one spelling, and filters put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import search_operation

from postern_common.ldap_filter import FilterError, check_filter
from postern_sync.rules.ldap_filter import any_contains, combine, escape
from postern_sync.rules.ldap_names import first_value, normal_dn, normal_member
from postern_sync.rules.ldap_presets import PRESETS


@pytest.mark.parametrize(
    "spelling",
    [
        r"CN=Doe\, John,OU=Staff,DC=demo,DC=test",
        r"cn=doe\2C john,ou=staff,dc=demo,dc=test",
        r"CN = Doe\2c  John , OU=Staff, DC=Demo ,DC=TEST",
        'cn="Doe, John",ou=staff;dc=demo;dc=test',
    ],
)
def test_one_name_has_one_form_however_it_is_written(spelling: str):
    assert normal_dn(spelling) == r"cn=doe\, john,ou=staff,dc=demo,dc=test"


def test_names_that_differ_stay_different():
    assert normal_dn("cn=a,dc=demo") != normal_dn("cn=b,dc=demo")
    assert normal_dn(r"cn=a\,dc=demo") != normal_dn("cn=a,dc=demo")
    assert normal_dn("cn=a+sn=b,dc=demo") == normal_dn("SN=b+CN=A,dc=demo")
    assert normal_dn("cn=Grüße,dc=demo") == normal_dn(r"cn=Gr\C3\BC\C3\9Fe,dc=demo")


def test_the_bit_string_behind_a_unique_member_is_no_part_of_the_name():
    assert normal_member("cn=Ann,dc=demo#'0101'B") == "cn=ann,dc=demo"


def test_the_first_value_is_an_entrys_own_name():
    assert first_value(r"CN=Doe\, John,OU=Staff,DC=demo") == "Doe, John"
    assert first_value("") == ""


@given(st.text(max_size=60))
def test_a_name_in_its_form_has_no_other_form(text: str):
    once = normal_dn(text)
    assert normal_dn(once) == once


@pytest.mark.spec("S11")
def test_filters_are_joined_so_that_all_hold():
    assert combine("(objectClass=user)", "") == "(objectClass=user)"
    assert combine("(objectClass=user)", "(department=Sales)") == "(&(objectClass=user)(department=Sales))"


@pytest.mark.spec("S11")
@pytest.mark.parametrize("text", ["(a=b)(c=d)", "(a=b))(|(c=d)", "a=b", "(a=b", "*)(uid=*"])
def test_a_customers_filter_cannot_leave_its_place(text: str):
    with pytest.raises(FilterError):
        combine("(objectClass=user)", text)


def test_always_and_never_are_said_so_that_every_server_knows_them():
    assert combine("(a=b)", "(|(&)(c=d))") == "(&(a=b)(|(objectClass=*)(c=d)))"
    assert combine("(!(|))") == "(!(!(objectClass=*)))"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_people_search_for_stays_a_value(text: str):
    assert not set(escape(text)) & set("()*\0")
    for whole in (any_contains(("cn", "mail"), text), f"(cn={escape(text)})"):
        check_filter(whole)
        assert whole.count("(") == whole.count(")")


@pytest.mark.spec("S11")
@pytest.mark.parametrize(
    "text",
    [
        "(cn=a\\2ab)", "(objectGUID=\\ff\\fe\\00)", "(cn=)", "(cn=*)", "(&)", "(|)", "(cn:dn:2.4.6:=x)", "(cn=o'brien)",
        "(userAccountControl:1.2.840.113556.1.4.803:=2)", "(cn=a*b*c)", "(!(mail=health*))", "(cn~=x)", "(cn=bé)",
    ],
)  # fmt: skip
def test_every_filter_that_is_taken_can_be_sent(text: str):
    check_filter(text)
    sent = search_operation("dc=x", combine("(a=b)", text), "SUBTREE", 0, ["cn"], 0, 0, False, False, True)
    assert sent["filter"].getName() == "and"


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_filters_of_the_presets_are_filters(name):
    preset = PRESETS[name]
    for text in (preset.user_filter, preset.group_filter, preset.public_folder_filter or "(a=b)"):
        check_filter(text)  # or it raises
        assert (text[0], text[-1]) == ("(", ")")
