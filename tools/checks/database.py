"""Where the database and the drivers may be touched.

A query outside a store is how a tenant's data gets to another one: stores are few, small and reviewed for their scope,
so a query anywhere else is refused, and in them a collection is never asked for without saying whose documents it may
show (SPEC T2).
"""

import ast
from collections.abc import Iterator

from tools.checks.source import Finding, Source

# bus.py marks an event as processed in the transaction of its handler.
STORES = frozenset({"store.py", "mongo.py", "mongo_errors.py", "outbox.py", "bus.py"})
STORES_OF_THE_EDGE = frozenset({"spool.py", "queue.py", "directory_cache.py"})
DATABASE_NAMES = frozenset({"db", "_db", "database", "_database"})
DATABASE_CALLS = frozenset({"collection", "get_collection", "get_database", "get_default_database"})

DRIVERS = frozenset({"aio_pika", "aiormq", "aiosmtplib", "bson", "dns", "gridfs", "httpx2", "motor", "pymongo"})
DRIVER_FOLDERS = frozenset({"adapters"})
DRIVER_FILES = STORES | {"deadletters.py", "wire.py"}


def _is_store(source: Source) -> bool:
    return source.name in STORES or (source.package == "postern_edge" and source.name in STORES_OF_THE_EDGE)


def _reaches_database(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.value).split(".")[-1] in DATABASE_NAMES
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DATABASE_CALLS


def database_only_in_stores(source: Source) -> Iterator[Finding]:
    """A collection is reached only from a store."""
    if not source.is_python or source.package is None or _is_store(source):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.expr) and _reaches_database(node):
            message = f"`{ast.unparse(node)}`: the database is reached only from a store.py"
            yield Finding(source.path, node.lineno, message)


def scope_is_named(source: Source) -> Iterator[Finding]:
    """A store says whose documents it wants: `mongo.collection(Collections.USERS, scope)`."""
    if not source.is_python or source.package in {None, "postern_common"} or not _is_store(source):
        return
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "collection" and len(node.args) + len(node.keywords) < 2:
            yield Finding(source.path, node.lineno, f"`{ast.unparse(node)}` names no TenantScope")
        elif node.func.attr in DATABASE_CALLS - {"collection"}:
            yield Finding(source.path, node.lineno, f"`{ast.unparse(node)}` goes round the TenantScope")


def drivers_only_behind_adapters(source: Source) -> Iterator[Finding]:
    """A driver is imported only where it is wrapped, so that replacing it is one change."""
    if not source.is_python or source.package in {None, "postern_local"} or _is_store(source):
        return
    if source.name in DRIVER_FILES or DRIVER_FOLDERS & set(source.module.parts[:-1]):
        return
    for line, driver in sorted({(line, module.split(".")[0]) for line, module in source.imports()}):
        if driver in DRIVERS:
            yield Finding(source.path, line, f"{driver} is a driver: import it in adapters/, store.py or bus.py")
