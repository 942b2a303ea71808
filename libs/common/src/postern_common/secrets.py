"""Secrets at rest: AES-256-GCM under versioned keys, bound to the place where they are stored.

The sealed form names its key's version, so that keys are rotated by adding one: new values are sealed under the
highest version, old ones still open, and `reseal` moves them over. The context (collection, document, field) is
authenticated with the value: a sealed secret copied to another place does not open.
"""

import hashlib
import hmac
import os
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_OCTETS: Final = 32
NONCE_OCTETS: Final = 12


class SecretsError(Exception):
    """Keys that cannot be used, or a sealed value that does not open; the text holds no secret."""


class SecretBox:
    """Seals and opens short secrets. `keys` maps a version to 32 octets; the highest version seals."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        if not keys:
            raise SecretsError("no encryption key is configured")
        if any(len(key) != KEY_OCTETS for key in keys.values()):
            raise SecretsError(f"an encryption key must have {KEY_OCTETS} octets")
        self._keys = dict(keys)
        self.current_version = max(keys)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `version:base64` pairs, comma or line separated."""
        keys: dict[int, bytes] = {}
        for part in text.replace("\n", ",").split(","):
            if not part.strip():
                continue
            version, colon, encoded = part.strip().partition(":")
            if not colon or not version.isdigit() or int(version) in keys:
                raise SecretsError("each encryption key needs the form version:base64, with versions that differ")
            try:
                keys[int(version)] = b64decode(encoded, validate=True)
            except ValueError as error:
                raise SecretsError(f"encryption key {version} is not base64") from error
        return cls(keys)

    def seal(self, plaintext: str | bytes, context: str) -> str:
        """Encrypt `plaintext` for the place that `context` names."""
        data = plaintext.encode() if isinstance(plaintext, str) else plaintext
        nonce = os.urandom(NONCE_OCTETS)
        sealed = AESGCM(self._keys[self.current_version]).encrypt(nonce, data, context.encode())
        return f"v{self.current_version}.{urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, context: str) -> bytes:
        """Decrypt what `seal` made for the same context; raise `SecretsError` otherwise."""
        version, _, encoded = sealed.partition(".")
        key = self._keys.get(self.version_of(sealed))
        if key is None:
            raise SecretsError(f"encryption key {version} is not configured")
        try:
            raw = urlsafe_b64decode(encoded)
            return AESGCM(key).decrypt(raw[:NONCE_OCTETS], raw[NONCE_OCTETS:], context.encode())
        except (InvalidTag, ValueError) as error:
            raise SecretsError("a sealed value does not open: altered, or moved from its place") from error

    def reseal(self, sealed: str, context: str) -> str | None:
        """The value sealed under the current key, or None if it already is."""
        if self.version_of(sealed) == self.current_version:
            return None
        return self.seal(self.open(sealed, context), context)

    def version_of(self, sealed: str) -> int:
        """The version of the key that sealed a value."""
        version = sealed.partition(".")[0]
        if not version.startswith("v") or not version[1:].isdigit():
            raise SecretsError("not a sealed value")
        return int(version[1:])

    def signer(self, purpose: str) -> "Signer":
        """A signer of short public values (cursors, links) for one purpose, under keys derived from these."""
        keys = {
            version: hmac.digest(key, b"postern-sign:" + purpose.encode(), "sha256")
            for version, key in self._keys.items()
        }
        return Signer(keys, self.current_version)


class Signer:
    """Signs and checks octets with HMAC-SHA-256, truncated to 128 bits."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        self._keys = dict(keys)
        self._current = current

    def sign(self, data: bytes) -> bytes:
        """Return the signature under the current key."""
        return hmac.new(self._keys[self._current], data, hashlib.sha256).digest()[:16]

    def check(self, data: bytes, signature: bytes) -> bool:
        """True if any known key made `signature` over `data`."""
        return any(
            hmac.compare_digest(hmac.new(key, data, hashlib.sha256).digest()[:16], signature)
            for key in self._keys.values()
        )
