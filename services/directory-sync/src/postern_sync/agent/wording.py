"""What is wrong with settings, in words of whoever wrote them rather than of a library."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

_PLAIN: Final = {
    "extra_forbidden": "unknown setting",
    "missing": "is missing",
    "string_type": "must be text, in quotes",
    "string_too_short": "must not be empty",
    "path_type": "must be a path, in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "model_type": "must be a section of its own, in square brackets",
}
_WITH: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than_equal": lambda told: f"must be {told['ge']} or more",
    "less_than_equal": lambda told: f"must be {told['le']} or less",
    "literal_error": lambda told: f"must be {told['expected'].replace(chr(39), chr(34))}",
    "value_error": lambda told: str(told["error"]),
}


def fault_of(error: ErrorDetails) -> str:
    """One setting and what is wrong with it; the value is not repeated, as it may be a secret."""
    name, kind = ".".join(map(str, error["loc"])), error["type"]
    words = _WITH[kind](error.get("ctx", {})) if kind in _WITH else _PLAIN.get(kind, error["msg"])
    return f"{name}: {words}" if name else words
