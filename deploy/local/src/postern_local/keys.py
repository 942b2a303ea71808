"""The secrets of one stack folder: made once, kept 0600 beside its data, the same after every restart."""

import base64
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from postern_local.files import write_private

AMQP_USER = "postern-local"  # by its name a URL is known to be that of a local stack; see `given`


@dataclass(frozen=True)
class Keys:
    """Everything random that a stack needs."""

    admin_password: str
    api_token: str
    encryption_key: str
    tsig_key: str
    amqp_password: str
    erlang_cookie: str
    node: str
    amqp_user: str = "postern"  # of a folder whose broker made its user before the name was recognisable

    @classmethod
    def make(cls) -> "Keys":
        """Fresh secrets."""
        return cls(
            admin_password=secrets.token_urlsafe(18),
            api_token=f"postern_{secrets.token_urlsafe(32)}",
            encryption_key=f"1:{_base64(32)}",
            tsig_key=_base64(32),
            amqp_password=secrets.token_hex(16),
            erlang_cookie=secrets.token_hex(20).upper(),
            node=f"postern-{secrets.token_hex(4)}@localhost",
            amqp_user=AMQP_USER,
        )

    @classmethod
    def of(cls, directory: Path) -> "Keys":
        """The folder's secrets, made if there are none yet."""
        path = directory / "secrets.json"
        if path.exists():
            return cls(**json.loads(path.read_text()))
        keys = cls.make()
        write_private(path, json.dumps(asdict(keys), indent=2) + "\n")
        return keys


def _base64(count: int) -> str:
    return base64.b64encode(secrets.token_bytes(count)).decode()
