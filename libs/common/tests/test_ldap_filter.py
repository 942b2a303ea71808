"""LDAP filters are judged by RFC 4515, and a mistake is placed."""

import pytest

from postern_common.ldap_filter import MAX_DEPTH, FilterError, check_filter
from postern_common.ldap_secrets import secret_attribute, secret_compared


def refusal(text):
    """Why a filter is refused; None where it is taken."""
    try:
        check_filter(text)
    except FilterError as error:
        return str(error)
    return None


@pytest.mark.spec("S11")
@pytest.mark.parametrize(
    "text",
    [
        "(cn=Babs Jensen)", "(!(cn=Tim Howes))", "(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))",
        "(o=univ*of*mich*)", "(seeAlso=)", "(cn:caseExactMatch:=Fred Flintstone)", "(cn:=Betty Rubble)",
        "(sn:dn:2.4.6.8.10:=Barney Rubble)", "(o:dn:=Ace Industry)", "(:1.2.3:=Wilma Flintstone)",
        "(:DN:2.4.6.8.10:=Dino)", r"(o=Parens R Us \28for all your parenthetical needs\29)", r"(cn=*\2A*)",
        r"(bin=\00\00\00\04)", "(sn=Lučić)", "(1.3.6.1.4.1.1466.0=\\04\\02)", "(mail=*)", "(&)", "(|)",
        "(userAccountControl:1.2.840.113556.1.4.803:=2)", "(cn;lang-de=x)", "(mail=o'brien@d)", "(age>=5)", "(a~=b)",
    ],
)  # fmt: skip
def test_filters_of_the_standard_are_taken_and_not_without_their_last_bracket(text):
    assert refusal(text) is None
    assert refusal(text[:-1]) is not None


@pytest.mark.spec("S11")
@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "not finished"), ("mail=*", 0, "bracket ("), ("(mail=*", 7, "not closed"), ("(mail=*))", 8, "ended"),
        ("(a=b)(c=d)", 5, "ended"), ("(&(a=b)", 7, "not closed"), ("(&(a=b) (c=d))", 7, "bracket )"),
        ("(mail)", 1, "comparison"), ("()", 1, "comparison"), ("(=x)", 1, "comparison"), ("(a=b(c)", 4, r"\28"),
        (r"(a=\zz)", 3, r"\5c"), (r"(a=b\)", 4, r"\5c"), ("(a=**)", 3, "two *"), ("(a>=b*)", 5, r"\2a"),
        ("(a=\0)", 3, r"\00"), ("(!)", 2, "bracket ("), ("(!(a=b)(c=d))", 7, "bracket )"),
        ("(a b=c)", 1, "comparison"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_filter_is_placed(text, position, words):
    with pytest.raises(FilterError) as caught:
        check_filter(text)
    assert caught.value.position == position
    assert words in str(caught.value)


def test_deep_nesting_ends():
    inner = MAX_DEPTH - 1
    check_filter("(!" * inner + "(a=b)" + ")" * inner)
    with pytest.raises(FilterError):
        check_filter("(!" * 5000 + "(a=b)" + ")" * 5000)


@pytest.mark.spec("L4")
def test_secrets_are_known_by_their_names_and_nothing_else_is_taken_for_one():
    secrets = (
        "userPassword", "unicodePwd", "sambaNTPassword", "krbPrincipalKey", "ipaNTHash", "ms-Mcs-AdmPwd", "olcRootPW",
        "msLAPS-EncryptedPasswordHistory", "supplementalCredentials", "userPassword;binary", "2.5.4.35", "pwdHistory",
    )  # fmt: skip
    assert [name for name in secrets if not secret_attribute(name)] == []
    plain = (
        "mail", "proxyAddresses", "pwdAccountLockedTime", "pwdLastSet", "badPwdCount", "passwordExpirationTime", "uid",
        "sshPublicKey", "company", "extensionAttribute1", "msDS-UserPasswordExpiryTimeComputed", "memberOf",
    )  # fmt: skip
    assert [name for name in plain if secret_attribute(name)] == []
    assert secret_compared("(&(mail=*)(!(userAccountControl:1.2.840.113556.1.4.803:=2))(cn=userPassword=))") is None
    for text in ("(|(cn=a)(userPassword>=a))", "(unicodePwd:dn:=a)", "(:caseExactMatch:=a)", "(!(1.2.3=*))"):
        assert secret_compared(text) is not None, text
