"""Makes the secrets of the compose stack once, one file each, readable by the services' user alone.

Runs in a bare Python image before everything else; a second run leaves what is there.
"""

import base64
import os
import secrets
import sys
from pathlib import Path

KEY_NAME = "postern-local"


def values() -> dict[str, tuple[str, int]]:
    """File names with fresh contents and modes; named reads its key as a user of its own."""
    tsig = base64.b64encode(secrets.token_bytes(32)).decode()
    return {
        "secret_keys": (f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}\n", 0o400),
        "admin_password": (secrets.token_urlsafe(18) + "\n", 0o400),
        "api_token": (f"postern_{secrets.token_urlsafe(32)}\n", 0o400),
        "tsig.conf": (f'key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{tsig}"; }};\n', 0o444),
    }


def write(directory: Path) -> list[str]:
    """Write what is missing; the names written."""
    written = []
    for name, (content, mode) in values().items():
        try:
            descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content)
        written.append(name)
    return written


if __name__ == "__main__":
    sys.stdout.write(f"made: {', '.join(write(Path(sys.argv[1]))) or 'nothing, all there'}\n")
