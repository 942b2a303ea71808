"""Files and functions short enough to be read in one go."""

import ast
from collections.abc import Iterator

from tools.checks.source import Finding, Source

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def files_and_functions_are_short(source: Source) -> Iterator[Finding]:
    """A file stays under 400 lines and a function under 60: past that, split it by noun or verb."""
    if not source.is_python:
        return
    lines = source.text.count("\n")
    if lines >= LONGEST_FILE:
        yield Finding(source.path, lines, f"{lines} lines: a file stays under {LONGEST_FILE}")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length >= LONGEST_FUNCTION:
                message = f"{node.name} has {length} lines: a function stays under {LONGEST_FUNCTION}"
                yield Finding(source.path, node.lineno, message)
