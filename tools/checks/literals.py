"""What a sender or a client reads comes from one catalogue each: SMTP replies and HTTP problems."""

import ast
import re
from collections.abc import Iterator

from tools.checks.source import Finding, Source

_REPLY = re.compile(r"[245]\d\d[ -]\S")
_PROBLEM_MEDIA_TYPE = "application/problem" + "+json"


def replies_only_from_catalogue(source: Source) -> Iterator[Finding]:
    """Every SMTP reply has a number of its own in replies.py, so that a bounce leads to one line of code."""
    if not source.is_python or source.package != "postern_edge" or source.name == "replies.py":
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Constant) or id(node) in source.docstring_ids:
            continue
        value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        if isinstance(value, str) and _REPLY.match(value):
            yield Finding(source.path, node.lineno, f"{value[:40]!r} is an SMTP reply: it belongs in replies.py")


def problems_only_from_catalogue(source: Source) -> Iterator[Finding]:
    """Every HTTP error is a problem built in http/problems.py, so that its public text is looked at once."""
    if not source.is_python or source.package != "postern_api" or source.module.as_posix() == "http/problems.py":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and node.value == _PROBLEM_MEDIA_TYPE:
            yield Finding(source.path, node.lineno, "a problem's media type: build the answer in http/problems.py")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "HTTPException":
            yield Finding(source.path, node.lineno, "HTTPException: raise Rejected, and let http/problems.py answer")
