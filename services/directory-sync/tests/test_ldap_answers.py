"""Answers of a server, octet by octet: what is LDAP is understood, anything else is refused and nothing more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.protocol.rfc4511 import LDAPMessage
from pyasn1.codec.ber import decoder

from postern_sync.adapters.ldap import ber
from tests.servers import ldap_wire

Attributes = st.dictionaries(
    st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=20),
    st.lists(st.binary(max_size=300), max_size=6),
    max_size=6,
)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), Attributes)
def test_an_entry_is_read_as_the_standards_own_decoder_reads_it(dn: str, attributes: dict[str, list[bytes]]):
    data = ldap_wire.entry(7, dn, attributes)
    theirs = decoder.decode(data, asn1Spec=LDAPMessage())[0]["protocolOp"].getComponent()
    message = ber.parse(data)
    assert (message.number, message.kind, ber.length_of(data)) == (7, ber.SEARCH_ENTRY, len(data))
    found = ber.entry(message)
    assert found.dn == bytes(theirs["object"]).decode()
    ours = {name: list(values) for name, values in found.attributes.items()}
    assert ours == {str(one["type"]): [bytes(value) for value in one["vals"]] for one in theirs["attributes"]}
    assert ours == attributes


@pytest.mark.parametrize("cookie", [None, b"", b"\x00\xffnext"])
def test_a_result_tells_its_code_its_text_and_whether_there_is_more(cookie: bytes | None):
    done = ldap_wire.Done(4, cookie, "size limit", ("ldap://other.test/dc=other",))
    found = ber.result(ber.parse(ldap_wire.result(3, 0x65, done)))
    assert (found.code, found.diagnostic, found.cookie) == (4, "size limit", cookie)
    assert found.referrals == ("ldap://other.test/dc=other",)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_is_no_more_than_it_holds(data: bytes):
    try:
        length = ber.length_of(data)
        assert length is None or length > 0
        message = ber.parse(data)
        found, done = ber.entry(message), ber.result(message)
    except ber.Malformed:
        return
    assert sum(len(value) for values in found.attributes.values() for value in values) <= len(data)
    assert len(done.diagnostic) <= len(data)


@given(st.data())
def test_a_damaged_answer_is_refused_or_read_but_never_more(data: st.DataObject):
    whole = bytearray(ldap_wire.entry(7, "cn=ann,dc=demo", {"mail": [b"ann@demo.test"], "member": [b"x"] * 5}))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        found = ber.entry(ber.parse(bytes(whole)))
        assert sum(len(value) for values in found.attributes.values() for value in values) < len(whole)
    except ber.Malformed:
        pass


@pytest.mark.parametrize("head", [b"\x31\x05", b"\x30\x80", b"\x30\x85\x01\x01\x01\x01\x01"])
def test_a_message_of_no_known_length_is_refused_at_once(head: bytes):
    with pytest.raises(ber.Malformed):
        ber.length_of(head)
