"""Secrets at rest."""

from base64 import b64encode

import pytest

from postern_common.secrets import SecretBox, SecretsError

ONE = "1:" + b64encode(b"a" * 32).decode()
TWO = "2:" + b64encode(b"b" * 32).decode()


def test_a_sealed_secret_opens_only_in_its_place():
    box = SecretBox.from_text(ONE)
    sealed = box.seal("hunter2", "sites/sit_1/password")
    assert "hunter2" not in sealed
    assert box.open(sealed, "sites/sit_1/password") == b"hunter2"
    with pytest.raises(SecretsError):
        box.open(sealed, "sites/sit_2/password")


def test_keys_rotate_without_losing_what_was_sealed_before():
    old = SecretBox.from_text(ONE)
    sealed = old.seal("hunter2", "here")
    both = SecretBox.from_text(f"{ONE},{TWO}")
    assert both.open(sealed, "here") == b"hunter2"
    moved = both.reseal(sealed, "here")
    assert moved is not None
    assert SecretBox.from_text(TWO).open(moved, "here") == b"hunter2"
    assert both.reseal(moved, "here") is None


def test_an_altered_value_does_not_open():
    box = SecretBox.from_text(ONE)
    sealed = box.seal("hunter2", "here")
    for spoiled in (sealed[:-2] + "AA", "v9" + sealed[2:], "v1.", "nonsense", ""):
        with pytest.raises(SecretsError):
            box.open(spoiled, "here")


@pytest.mark.parametrize("text", ["", "1:short", "x:" + ONE[2:], ONE + "," + ONE, "1:" + b64encode(b"a" * 31).decode()])
def test_bad_keys_are_refused(text):
    with pytest.raises(SecretsError):
        SecretBox.from_text(text)


def test_signatures_survive_a_new_key_and_differ_by_purpose():
    before = SecretBox.from_text(ONE).signer("cursor").sign(b"x")
    after = SecretBox.from_text(f"{ONE},{TWO}")
    assert after.signer("cursor").check(b"x", before)
    assert not after.signer("cursor").check(b"y", before)
    assert not after.signer("link").check(b"x", before)
