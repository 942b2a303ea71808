"""What is wrong with a field, in plain words: the one place that turns the schema library's messages into ours.

Values are never repeated; limits, allowed values and the names of known fields are.
"""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

_PLAIN: Final = {
    "missing": "this field is required",
    "json_invalid": "the body is not valid JSON",
    "model_attributes_type": "a JSON object is expected",
    "model_type": "a JSON object is expected",
    "dict_type": "a JSON object is expected",
    "list_type": "a list is expected",
    "string_type": "a text is expected",
    "string_unicode": "this is no valid Unicode text",
    "int_type": "a whole number is expected",
    "int_parsing": "a whole number is expected",
    "int_parsing_size": "the number is too large",
    "int_from_float": "a whole number is expected",
    "float_type": "a number is expected",
    "float_parsing": "a number is expected",
    "bool_type": "true or false is expected",
    "bool_parsing": "true or false is expected",
    "string_pattern_mismatch": "this has not the form that is needed here",
    "datetime_type": "a time such as 2026-01-31T12:00:00Z is expected",
    "datetime_parsing": "a time such as 2026-01-31T12:00:00Z is expected",
    "datetime_from_date_parsing": "a time such as 2026-01-31T12:00:00Z is expected",
    "datetime_object_invalid": "a time such as 2026-01-31T12:00:00Z is expected",
    "timezone_aware": "the time needs its zone, such as the Z in 2026-01-31T12:00:00Z",
}
_LIMITS: Final = {
    "string_too_short": "at least {min_length} characters are needed",
    "string_too_long": "at most {max_length} characters are allowed",
    "too_short": "at least {min_length} items are needed",
    "too_long": "at most {max_length} items are allowed",
    "greater_than_equal": "the number must be {ge} or more",
    "greater_than": "the number must be more than {gt}",
    "less_than_equal": "the number must be {le} or less",
    "less_than": "the number must be less than {lt}",
    "literal_error": "one of these is expected: {expected}",
    "enum": "one of these is expected: {expected}",
}


def explain(fault: Mapping[str, Any], models: Sequence[type[BaseModel]] = ()) -> str:
    """The message for one fault; `models` are those that the request was read into."""
    kind = fault["type"]
    if kind == "extra_forbidden":
        names = _known(models, fault["loc"][1:-1])
        return f"unknown field; known fields are: {', '.join(names)}" if names else "unknown field"
    if kind in _LIMITS:
        return _LIMITS[kind].format(**fault.get("ctx", {}))
    return _PLAIN.get(kind) or str(fault["msg"]).removeprefix("Value error, ")


def models_in(hint: Any) -> list[type[BaseModel]]:
    """The models that a type hint names, through lists, options and annotations."""
    if isinstance(hint, type) and get_origin(hint) is None:
        return [hint] if issubclass(hint, BaseModel) else []
    if get_origin(hint) is Annotated:
        return models_in(get_args(hint)[0])
    if get_origin(hint) in {Union, UnionType, list, tuple}:
        return [model for part in get_args(hint) for model in models_in(part)]
    return []


def _known(models: Sequence[type[BaseModel]], path: Sequence[int | str]) -> list[str]:
    """The fields of the model at `path`, by the names that they have outside."""
    for part in path:
        if isinstance(part, str):
            fields = [(name, field) for model in models for name, field in model.model_fields.items()]
            models = [
                inner for name, field in fields if part in {name, field.alias} for inner in models_in(field.annotation)
            ]
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()})
