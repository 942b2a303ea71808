"""`python -m postern_api` runs the API.

`settings` prints the effective settings, `openapi` the API's document (no server is needed), `rotate-keys` seals
everything that is stored sealed under the current encryption key.
"""

import asyncio
import json
import sys

from postern_api.app import create_app, run
from postern_api.directory.settings import store as directories
from postern_api.http.store import IdempotencyStore
from postern_api.resources import SERVICE
from postern_api.settings import ApiSettings
from postern_common.clock import Clock
from postern_common.mongo import Mongo
from postern_common.secrets import SecretBox
from postern_common.settings import describe, load

EX_USAGE = 64


def main(arguments: list[str]) -> int:
    """Do what the command line asks; the exit status."""
    match arguments:
        case ["openapi"]:
            print(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False))
        case ["settings"]:
            print(describe(load(ApiSettings)))
        case ["rotate-keys"]:
            print(f"resealed {asyncio.run(rotate_keys(load(ApiSettings)))} values")
        case []:
            return run(load(ApiSettings))
        case _:
            print("usage: python -m postern_api [settings|openapi|rotate-keys]", file=sys.stderr)
            return EX_USAGE
    return 0


async def rotate_keys(settings: ApiSettings) -> int:
    """Seal what is stored under the current key; how many values moved. Then old keys may go from the settings."""
    mongo = Mongo.connect(settings, Clock(settings.test_clock), application=SERVICE)
    try:
        box = SecretBox.from_text(settings.secret_key_text())
        return await IdempotencyStore(mongo).reseal(box) + await directories.reseal(mongo, box)
    finally:
        mongo.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
