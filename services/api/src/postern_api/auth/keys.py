"""The secret texts that principals present: made here, and only their hashes are stored (SPEC T4).

They hold 256 random bits, so that a plain SHA-256 is enough: there is nothing to guess.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from typing import Final

SESSION_PREFIX: Final = "pses_"
TOKEN_PREFIX: Final = "ptok_"  # noqa: S105 - what all tokens begin with


def new_session_text(session_id: str) -> str:
    """A session's secret; it names the session so that it is found without a search."""
    return f"{SESSION_PREFIX}{session_id.removeprefix('ses_')}_{secrets.token_urlsafe(32)}"


def session_id_of(text: str) -> str | None:
    """The id of the session that a text claims to belong to."""
    head = text.removeprefix(SESSION_PREFIX).split("_", 1)[0]
    return f"ses_{head}" if text.startswith(SESSION_PREFIX) and len(head) == 32 else None


def new_token_text() -> str:
    """An API token's secret."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest(text: str) -> str:
    """What is stored of a secret text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_token(session_text: str) -> str:
    """What the portal must send with a change besides the cookie; only the session's holder can know it."""
    raw = hmac.digest(session_text.encode("utf-8", "surrogatepass"), b"postern csrf", "sha256")
    return urlsafe_b64encode(raw).decode().rstrip("=")


def same(first: str, second: str) -> bool:
    """Compare without telling by the time where they differ."""
    return hmac.compare_digest(first.encode("utf-8", "surrogatepass"), second.encode("utf-8", "surrogatepass"))
