"""TLSA records: which count, what they match, which certificates a server may show (RFC 6698, RFC 7671, RFC 7672)."""

import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha512

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from postern_edge.adapters.certificates import NotVouchedFor, check_dane
from postern_edge.rules.dane import Certificate, Tlsa, anchors, is_named, matches, names_the_server, needs_names, usable

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LONG = timedelta(days=30)
CERT = Certificate(b"a certificate", b"its key")


class Signer:
    """A certificate with its key."""

    def __init__(
        self,
        name,
        issuer=None,
        *,
        is_ca=False,
        constrained=True,
        path_length=None,
        begins=NOW - LONG,
        ends=NOW + LONG,
        serves=True,
        dns=None,
        key=None,
        odd=None,
    ):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        if is_ca and constrained:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        if not is_ca:
            builder = builder.add_extension(
                odd or x509.SubjectAlternativeName([x509.DNSName(dns or name)]), critical=False
            )
            usage = ExtendedKeyUsageOID.SERVER_AUTH if serves else ExtendedKeyUsageOID.CLIENT_AUTH
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        self.certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def tlsa(signer, usage, selector=1, matching=1):
    selected = signer.der if selector == 0 else signer.spki
    data = {0: selected, 1: sha256(selected).digest(), 2: sha512(selected).digest()}[matching]
    return Tlsa(usage, selector, matching, data)


def fault_of(sent, records, names=("mx.signed.test",), now=NOW):
    """The result type and code of a server's certificates; None where they are good."""
    try:
        check_dane([one.der for one in sent], usable(records), names, now)
    except NotVouchedFor as error:
        return error.fault.result_type, error.fault.reason_code
    return None


@pytest.fixture(scope="module")
def root():
    return Signer("Root", is_ca=True)


@pytest.fixture(scope="module")
def middle(root):
    return Signer("Middle", root, is_ca=True)


@pytest.fixture(scope="module")
def leaf(middle):
    return Signer("mx.signed.test", middle)


# -- records -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "record,is_usable",
    [
        (Tlsa(3, 1, 1, bytes(32)), True),
        (Tlsa(2, 0, 2, bytes(64)), True),
        (Tlsa(3, 0, 0, b"x"), True),
        (Tlsa(0, 1, 1, bytes(32)), False),  # PKIX-TA
        (Tlsa(1, 1, 1, bytes(32)), False),  # PKIX-EE
        (Tlsa(4, 1, 1, bytes(32)), False),
        (Tlsa(3, 2, 1, bytes(32)), False),
        (Tlsa(3, 1, 3, bytes(32)), False),
        (Tlsa(3, 1, 1, bytes(31)), False),
        (Tlsa(3, 1, 2, bytes(32)), False),
        (Tlsa(3, 0, 0, b""), False),
    ],
)
def test_records_that_cannot_be_checked_are_unusable(record, is_usable):
    assert (usable([record]) == (record,)) is is_usable


@pytest.mark.spec("R11")
def test_of_several_digests_the_strongest_counts_and_each_usage_has_its_own():
    weak, strong = Tlsa(3, 1, 1, sha256(CERT.spki).digest()), Tlsa(3, 1, 2, bytes(64))
    whole, other = Tlsa(3, 1, 0, b"other key"), Tlsa(2, 1, 1, bytes(32))
    assert set(usable([weak, strong, whole, other])) == {strong, whole, other}
    assert not names_the_server(usable([weak, strong]), CERT)
    assert names_the_server(usable([weak]), CERT)


@pytest.mark.spec("R11")
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_record_matches_what_it_was_made_of_and_nothing_else(leaf, middle, selector, matching):
    record = tlsa(leaf, 3, selector, matching)
    assert record.is_usable
    assert matches(record, Certificate(leaf.der, leaf.spki))
    assert not matches(record, Certificate(middle.der, middle.spki))


@given(st.builds(Tlsa, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=80)))
def test_whatever_a_record_says_it_is_judged_without_an_error(record):
    kept = usable([record, record])
    assert len(kept) <= 1
    assert not names_the_server(kept, CERT)
    assert anchors(kept, [CERT]) in ([], [record.data])


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "presented,references,is_good",
    [
        (["mx.signed.test"], ["mx.signed.test"], True),
        (["MX.Signed.Test."], ["mx.signed.test"], True),
        (["signed.test"], ["mx.signed.test", "signed.test"], True),
        (["*.signed.test"], ["mx.signed.test"], True),
        (["*.test"], ["mx.signed.test"], False),
        (["*.test"], ["signed.test"], False),  # nobody is named for a whole top-level domain
        (["m*.signed.test"], ["mx.signed.test"], False),
        (["*.signed.test"], ["signed.test"], False),
        (["other.test"], ["mx.signed.test"], False),
        ([], ["mx.signed.test"], False),
    ],
)
def test_a_certificate_names_the_server_whole_or_by_a_star_for_its_first_label(presented, references, is_good):
    assert is_named(presented, references) is is_good


# -- DANE-EE -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
def test_dane_ee_looks_at_neither_names_nor_dates_nor_issuers():
    old = Signer("other.test", begins=NOW - 2 * LONG, ends=NOW - LONG)
    assert fault_of([old], [tlsa(old, 3)]) is None
    assert not needs_names([tlsa(old, 3)])


@pytest.mark.spec("R11")
def test_a_certificate_that_matches_no_record_is_refused(leaf, middle):
    assert fault_of([leaf, middle], [tlsa(middle, 3)]) == ("certificate-not-trusted", "dane-no-match")
    assert fault_of([], [tlsa(leaf, 3)]) == ("validation-failure", "no-certificate")


def test_octets_that_are_no_certificate_are_refused(leaf):
    with pytest.raises(NotVouchedFor, match="cannot be read"):
        check_dane([b"\x30\x03\x02\x01\x00"], [tlsa(leaf, 3)], (), NOW)


# -- DANE-TA -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
@pytest.mark.parametrize("selector,matching", [(0, 1), (1, 1), (0, 2), (0, 0), (1, 0)])
def test_dane_ta_takes_a_server_whose_certificate_leads_to_the_anchor(root, middle, leaf, selector, matching):
    for anchor in (root, middle):
        assert fault_of([leaf, middle, root], [tlsa(anchor, 2, selector, matching)]) is None


@pytest.mark.spec("R11")
def test_a_whole_certificate_in_a_record_needs_not_be_sent_and_a_digest_does(root, middle, leaf):
    assert fault_of([leaf, middle], [tlsa(root, 2, 0, 0)]) is None
    assert fault_of([leaf, middle], [tlsa(root, 2, 0, 1)]) == ("certificate-not-trusted", "dane-no-match")


@pytest.mark.spec("R11")
def test_dane_ta_wants_the_name_of_the_server_or_of_its_domain(root, middle, leaf):
    wrong = fault_of([leaf, middle], [tlsa(middle, 2)], names=("mx.other.test", "other.test"))
    assert wrong == ("certificate-host-mismatch", "dane-name-mismatch")
    domain = Signer("signed.test", middle)
    assert fault_of([domain, middle], [tlsa(middle, 2)], names=("mx.signed.test", "signed.test")) is None


@pytest.mark.spec("R11")
def test_dane_ta_wants_dates_that_hold(root, middle):
    old = Signer("mx.signed.test", middle, begins=NOW - 2 * LONG, ends=NOW - LONG)
    assert fault_of([old, middle], [tlsa(middle, 2)]) == ("certificate-expired", "dane-path-out-of-date")


@pytest.mark.spec("R11")
def test_an_anchor_that_did_not_sign_vouches_for_nobody(root, middle, leaf):
    impostor = Signer("Middle", is_ca=True)
    no_path = ("certificate-not-trusted", "dane-no-path-to-anchor")
    assert fault_of([leaf, impostor], [tlsa(impostor, 2)]) == no_path
    assert fault_of([impostor, middle], [tlsa(middle, 2)]) == no_path


@pytest.mark.spec("R11")
def test_who_may_not_issue_is_no_authority(root):
    no_path = ("certificate-not-trusted", "dane-no-path-to-anchor")
    clerk = Signer("Clerk", root, is_ca=True, constrained=False)
    assert fault_of([Signer("mx.signed.test", clerk), clerk, root], [tlsa(root, 2)]) == no_path
    short = Signer("Short", is_ca=True, path_length=0)
    below = Signer("Below", short, is_ca=True)
    assert fault_of([Signer("mx.signed.test", below), below, short], [tlsa(short, 2)]) == no_path
    client = Signer("mx.signed.test", root, serves=False)
    assert fault_of([client, root], [tlsa(root, 2)]) == no_path


@pytest.mark.spec("R11")
def test_the_servers_own_certificate_is_no_anchor_for_itself():
    own = Signer("mx.signed.test")
    assert fault_of([own], [tlsa(own, 2)]) == ("certificate-not-trusted", "dane-no-match")


@pytest.mark.spec("R11")
def test_one_anchor_among_others_is_enough(root, middle, leaf):
    impostor, old = Signer("Middle", is_ca=True), Signer("Old", is_ca=True, begins=NOW - 2 * LONG, ends=NOW - LONG)
    broken = Tlsa(2, 0, 0, b"no certificate")
    records = [broken, *(tlsa(one, 2, 0, 0) for one in (impostor, old, root))]
    assert fault_of([leaf, impostor, middle], records) is None
    assert fault_of([leaf, middle], [broken]) == ("certificate-not-trusted", "dane-no-match")


@pytest.mark.spec("R11")
def test_certificates_and_records_made_to_be_hard_to_judge_are_judged_at_once():
    key = ec.generate_private_key(ec.SECP256R1())
    first, second = Signer("First", is_ca=True, key=key), Signer("Second", is_ca=True, key=key)
    knots = [Signer(name, issuer, is_ca=True, key=key) for name, issuer in (("First", second), ("Second", first)) * 9]
    records = [tlsa(Signer(f"Anchor {number}", is_ca=True), 2, 0, 0) for number in range(150)]
    began = time.perf_counter()
    fault = fault_of([Signer("mx.signed.test", first), *knots], records)
    assert fault == ("certificate-not-trusted", "dane-no-path-to-anchor")
    assert time.perf_counter() - began < 2


@pytest.mark.spec("R11")
@pytest.mark.parametrize("octets", [b"\x30\x04\xa3\x02\x05\x00", b"\x30\x04\xa5\x02\x05\x00", b"\xff\xff"])
def test_names_that_nobody_can_read_vouch_for_nothing_and_break_nothing(root, octets):
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, octets)
    fault = fault_of([Signer("mx.signed.test", root, odd=names), root], [tlsa(root, 2)])
    assert fault == ("certificate-not-trusted", "dane-no-path-to-anchor")
