"""Rules are pure: they import the standard library, pydantic, each other, and plain values of the common library."""

import sys
from collections.abc import Iterator

from tools.checks.source import Finding, Source

ALLOWED_COMMON = frozenset(
    {
        "addresses",
        "directory_documents",
        "documents",
        "errors",
        "events",
        "ids",
        "ldap_filter",
        "mta_sts",
        "tls_result_documents",
    }
)
IMPURE_STANDARD = frozenset(
    {"asyncio", "http", "random", "secrets", "smtplib", "socket", "subprocess", "threading", "urllib"}
)


def rules_are_pure(source: Source) -> Iterator[Finding]:
    """A module in a rules folder decides from its arguments alone; anything it would read is passed in."""
    if not source.is_python or source.package is None or "rules" not in source.module.parts[:-1]:
        return
    for line, module in source.imports():
        if not _allowed(module, source.package):
            yield Finding(source.path, line, f"`{module}`: a rule decides from its arguments; pass in what it needs")


def _allowed(module: str, package: str) -> bool:
    top, _, rest = module.partition(".")
    if top == "postern_common":
        return not rest or rest.split(".")[0] in ALLOWED_COMMON
    if top == package:
        return not rest or "rules" in rest.split(".")
    return top == "pydantic" or (top in sys.stdlib_module_names and top not in IMPURE_STANDARD)
