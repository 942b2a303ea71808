"""Servers that the environment names: asked before anything starts, so that a fault names the variable that is wrong.

A shell that read a local stack's `env` file has the addresses of that stack's own servers. They are not *given*: the
next start would share another stack's data, or wait for servers that ended with their stack. They are known by the
marks that our addresses carry, and left out.
"""

import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError

from postern_local.faults import StackFault
from postern_local.keys import AMQP_USER
from postern_local.mongod import APP_NAME


def local_servers(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Which of the two variables hold an address that a local stack wrote."""
    signs = {"MONGODB_URI": _of_local_mongod, "AMQP_URL": _of_local_broker}
    return tuple(name for name, ours in signs.items() if ours(environment.get(name, "")))


def _of_local_mongod(uri: str) -> bool:
    return ("appName", APP_NAME) in parse_qsl(uri.partition("?")[2])


def _of_local_broker(url: str) -> bool:
    try:
        return urlsplit(url).username == AMQP_USER
    except ValueError:
        return False


def check_mongodb(uri: str) -> None:
    """A replica set's primary must answer, since transactions need one."""
    client: MongoClient[dict[str, Any]] | None = None
    try:
        client = MongoClient(uri, serverSelectionTimeoutMS=5000)
        if not client.admin.command("hello").get("setName"):
            raise StackFault("MONGODB_URI names a server that is no replica set, and transactions need one")
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise StackFault("MONGODB_URI is no valid connection string") from error
    except PyMongoError as error:
        raise StackFault(f"MONGODB_URI is set, but no primary answers there ({type(error).__name__})") from error
    finally:
        if client is not None:
            client.close()


def check_amqp(url: str) -> None:
    """Something must accept connections there; the services tell the rest."""
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "amqps"
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise StackFault("AMQP_URL must look like amqp://user:password@host:port/vhost")
        with socket.create_connection((parts.hostname, parts.port or (5671 if secure else 5672)), timeout=5):
            pass
    except ValueError as error:
        raise StackFault("AMQP_URL is no valid address") from error
    except OSError as error:
        raise StackFault(f"AMQP_URL is set, but nobody answers there ({type(error).__name__})") from error
