"""Paths and parameters of MAIL and RCPT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_edge.rules.parameters import BadParameter, UnknownParameter, parse_mail_parameters, parse_rcpt_parameters
from postern_edge.rules.paths import (
    BadPath,
    Mailbox,
    PathProblem,
    parse_forward_path,
    parse_reverse_path,
    split_path,
)


def forward(path, *, smtputf8=False):
    return parse_forward_path(path, smtputf8=smtputf8)


@pytest.mark.parametrize(
    ("path", "mailbox"),
    [
        ("<ann@example.test>", Mailbox("ann", "example.test")),
        ("<Ann.B+tag@Example.TEST>", Mailbox("Ann.B+tag", "example.test")),
        ("<o'brien@example.test>", Mailbox("o'brien", "example.test")),
        ('<"a b"@example.test>', Mailbox('"a b"', "example.test")),
        ('<"a>b@c"@example.test>', Mailbox('"a>b@c"', "example.test")),
        (r'<"a\"b"@example.test>', Mailbox(r'"a\"b"', "example.test")),
        ("<ann@[192.0.2.1]>", Mailbox("ann", "[192.0.2.1]")),
        ("<ann@[IPv6:2001:DB8::1]>", Mailbox("ann", "[IPv6:2001:db8::1]")),
        ("<@relay.test,@other.test:ann@example.test>", Mailbox("ann", "example.test")),
        ("<ann@localhost>", Mailbox("ann", "localhost")),
        ("<ann@host_name.example.test>", Mailbox("ann", "host_name.example.test")),
        ("<Postmaster>", Mailbox("Postmaster", "")),
        ("<ann@XN--bcher-KVA.test>", Mailbox("ann", "xn--bcher-kva.test")),
    ],
)
def test_path_is_read(path, mailbox):
    assert split_path(path + " SIZE=1") == (path, " SIZE=1")
    assert forward(path) == mailbox


@pytest.mark.parametrize(
    "path",
    [
        "<>",
        "<ann>",
        "<ann@>",
        "<@example.test>",
        "<ann@@example.test>",
        "<ann@b@example.test>",
        "<.ann@example.test>",
        "<ann.@example.test>",
        "<a..b@example.test>",
        "<a b@example.test>",
        "<ann@example..test>",
        "<ann@example.test.>",
        "<ann@-example.test>",
        "<ann@exa mple.test>",
        "<ann@[192.0.2]>",
        "<ann@[192.0.2.1>",
        "<ann@[IPv6:zz]>",
        '<""@example.test>',
        '<"a"b@example.test>',
        "<ann\x00@example.test>",
        "<ann@example.test\r>",
        "<@relay.test ann@example.test>",
        "<ann@xn--zzzzzz-.test>",
    ],
)
def test_path_is_refused(path):
    with pytest.raises(BadPath) as caught:
        forward(path)
    assert caught.value.problem is PathProblem.SYNTAX


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    "text", ["ann@example.test", "", "<ann@example.test", "<ann@example.test>x", '<"ann@example.test>']
)
def test_case_49_brackets_are_not_optional(text):
    with pytest.raises(BadPath):
        split_path(text)


@pytest.mark.parametrize(
    "path",
    [
        f"<{'a' * 65}@example.test>",
        f"<a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 20}>",
        f"<a@{'x.' * 130}test>",
    ],
)
def test_length_limits(path):
    with pytest.raises(BadPath) as caught:
        forward(path)
    assert caught.value.problem is PathProblem.TOO_LONG


def test_longest_local_part_passes():
    assert forward(f"<{'a' * 64}@example.test>").local == "a" * 64


@pytest.mark.parametrize("path", ["<bjørn@example.test>", "<ann@bücher.test>", '<"bj ørn"@example.test>'])
def test_international_address_needs_the_parameter(path):
    with pytest.raises(BadPath) as caught:
        forward(path)
    assert caught.value.problem is PathProblem.NEEDS_SMTPUTF8
    assert forward(path, smtputf8=True)


@pytest.mark.spec("D5")
def test_unicode_domain_is_its_a_label():
    assert forward("<ann@BÜCHER.test>", smtputf8=True).domain == "xn--bcher-kva.test"


def test_null_sender():
    assert parse_reverse_path("<>", smtputf8=False) is None


@pytest.mark.spec("U4")
def test_key_ignores_case():
    assert forward("<FOO@Example.TEST>").key == "foo@example.test"


@given(st.text(max_size=80), st.booleans())
def test_any_text_is_a_mailbox_or_a_bad_path(text, smtputf8):
    try:
        path, _ = split_path(f"<{text}>")
        mailbox = forward(path, smtputf8=smtputf8)
    except BadPath:
        return
    assert not any(ord(char) < 32 or ord(char) == 127 for char in str(mailbox))
    assert mailbox.domain.isascii()
    if mailbox.domain:
        assert forward(f"<{mailbox}>", smtputf8=True) == mailbox


def test_mail_parameters():
    found = parse_mail_parameters(" SIZE=1000 body=8bitmime SMTPUTF8 RET=hdrs ENVID=a+2Bb")
    assert (found.size, found.body_type, found.smtputf8) == (1000, "8BITMIME", True)
    assert (found.ret, found.envid) == ("HDRS", "a+2Bb")


def test_rcpt_parameters():
    found = parse_rcpt_parameters(" NOTIFY=success,FAILURE ORCPT=rfc822;ann+2Bx@example.test")
    assert found.notify == ("SUCCESS", "FAILURE")
    assert found.orcpt == "rfc822;ann+2Bx@example.test"
    assert parse_rcpt_parameters(" NOTIFY=NEVER").notify == ("NEVER",)
    assert parse_rcpt_parameters(" ORCPT=utf-8;bj\\x{F8}rn@example.test").orcpt


@pytest.mark.parametrize(
    "text",
    [
        *(" SIZE", " SIZE=", " SIZE=x", " SIZE=-1", " SIZE=1 SIZE=1", " SIZE=1=2", " SIZE=\u0661", " SI_ZE=1", " =1"),
        *(" BODY=BINARYMIME", " BODY", " SMTPUTF8=1", " RET=ALL", " ENVID=a+zz", " ENVID=" + "a" * 101),
    ],
)
def test_bad_mail_parameter(text):
    with pytest.raises(BadParameter):
        parse_mail_parameters(text)


@pytest.mark.parametrize(
    "text",
    [
        " NOTIFY=",
        " NOTIFY=NEVER,FAILURE",
        " NOTIFY=SUCCESS,SUCCESS",
        " NOTIFY=ALWAYS",
        " ORCPT=ann@x",
        " ORCPT=rfc822;a b",
    ],
)
def test_bad_rcpt_parameter(text):
    with pytest.raises((BadParameter, UnknownParameter)):
        parse_rcpt_parameters(text)


@pytest.mark.parametrize("text", [" AUTH=<>", " MT-PRIORITY=3", " REQUIRETLS", " NOTIFY=NEVER"])
def test_parameter_of_an_extension_that_is_not_offered(text):
    with pytest.raises(UnknownParameter):
        parse_mail_parameters(text)
