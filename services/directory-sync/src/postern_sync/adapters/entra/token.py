"""Tokens for Microsoft Graph by msal's client credentials, with a secret or a certificate (SPEC E2).

msal waits on the network, so it works in a thread. Its session looks at no proxy and no authorities of the environment.
"""

import asyncio
import json
import re
import threading
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msal  # type: ignore[import-untyped]
import requests
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from postern_sync.adapters.entra.clouds import Places
from postern_sync.rules import graph_words
from postern_sync.source import SourceFailed

TIMEOUT: Final = (10.0, 30.0)
_UNREACHABLE: Final = "Microsoft's sign-in service cannot be reached just now."
_UNTRUSTED: Final = "The certificate of Microsoft's sign-in service is not trusted here."
_UNKNOWN_TENANT: Final = "The tenant is not known: check the tenant id, and the cloud."
_BAD_CERTIFICATE: Final = "The certificate or its key cannot be used; it needs an RSA key without password."
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Credential:
    """Who signs in: an application with its secret, or with its certificate and key as PEM."""

    client_id: str
    secret: str | None
    certificate: str | None

    def for_msal(self) -> str | dict[str, str]:
        """As msal takes it. Raises `SourceFailed` where the certificate's key cannot sign."""
        if self.certificate is None:
            return self.secret or ""
        blocks = {"key": "", "certificate": ""}
        for found in _BLOCK.finditer(self.certificate):
            kind = "key" if found[1].endswith("PRIVATE KEY") else "certificate"
            blocks[kind] = blocks[kind] or found[0]
        try:
            key = load_pem_private_key(blocks["key"].encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPrivateKey):  # Microsoft takes no other kind
            raise SourceFailed("token", _BAD_CERTIFICATE)
        return {"private_key": blocks["key"], "public_certificate": blocks["certificate"]}


class _Session(requests.Session):
    """A session of its own settings that never waits for ever."""

    def __init__(self, ca_file: Path | None) -> None:
        super().__init__()
        self.trust_env = False
        if ca_file is not None:
            self.verify = str(ca_file)

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        """Ask, with a timeout, and go nowhere else."""
        options.setdefault("timeout", TIMEOUT)
        options["allow_redirects"] = False
        return super().request(method, url, *args, **options)


class Tokens:
    """The tokens of one application; a good one is used again."""

    def __init__(self, places: Places, credential: Credential, *, ca_file: Path | None, discovers: bool) -> None:
        self._places = places
        self._credential = credential
        self._ca_file = ca_file
        self._discovers = discovers
        self._session: _Session | None = None
        self._application: msal.ConfidentialClientApplication | None = None
        self._lock = threading.Lock()

    async def get(self, *, renew: bool = False) -> str:
        """A token; `renew` where the last one was refused. Raises `SourceFailed`."""
        return await asyncio.to_thread(self._get, renew=renew)

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()

    def _get(self, *, renew: bool) -> str:
        with self._lock:
            try:
                if self._application is None:
                    self._application = self._make()
                if renew:
                    self._application.remove_tokens_for_client()
                answer = self._application.acquire_token_for_client(scopes=[self._places.scope])
            except requests.exceptions.SSLError:
                raise SourceFailed("connect", _UNTRUSTED) from None
            except requests.exceptions.RequestException:
                raise SourceFailed("connect", _UNREACHABLE) from None
            except json.JSONDecodeError:
                raise SourceFailed("connect", _UNREACHABLE) from None
            except (ValueError, TypeError, AttributeError) as error:  # msal names neither keys nor tenants apart
                raise self._unusable(error) from None
        return _token_of(answer)

    def _make(self) -> msal.ConfidentialClientApplication:
        self._session = self._session or _Session(self._ca_file)
        return msal.ConfidentialClientApplication(
            self._credential.client_id,
            client_credential=self._credential.for_msal(),
            authority=self._places.authority,
            http_client=self._session,
            instance_discovery=None if self._discovers else False,
        )

    def _unusable(self, error: Exception) -> SourceFailed:
        codes = graph_words.sign_in_codes(str(error), str(error.__context__ or ""))
        if codes:
            return SourceFailed("token", graph_words.sign_in_words(codes))
        text = str(error)
        if "authority" in text or "invalid_instance" in text:
            return SourceFailed("token", _UNKNOWN_TENANT)
        return SourceFailed("token", _BAD_CERTIFICATE if self._credential.certificate else _UNREACHABLE)


def _token_of(answer: dict[str, Any] | None) -> str:
    if answer and isinstance(answer.get("access_token"), str):
        return str(answer["access_token"])
    found = answer or {}
    codes = [code for code in found.get("error_codes") or [] if isinstance(code, int)]
    codes = codes or graph_words.sign_in_codes(str(found.get("error_description", "")))
    is_passing = graph_words.passes(codes) or found.get("error") == "temporarily_unavailable"
    raise SourceFailed("connect" if is_passing else "token", graph_words.sign_in_words(codes))


def granted(token: str) -> frozenset[str] | None:
    """The application permissions that a token names; None where it cannot be looked into.

    Tokens are Graph's own affair: this is used for telling people what is missing, and decides nothing.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    roles = claims.get("roles") if isinstance(claims, dict) else None
    if roles is None:
        return frozenset() if isinstance(claims, dict) and "aud" in claims else None
    return frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else None
