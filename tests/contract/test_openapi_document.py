"""The committed OpenAPI document is valid, and says of each operation what a client needs to know."""

import json
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import validate

DOCUMENT = json.loads((Path(__file__).resolve().parents[2] / "docs/openapi.json").read_text(encoding="utf-8"))
METHODS = {"get", "post", "put", "patch", "delete"}
OPERATIONS = {
    f"{method} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method in METHODS
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def resolved(schema):
    """The schema with its references looked up in the whole document."""
    return {"$ref": "#/schema", "schema": schema, "components": DOCUMENT["components"]}


def examples(content):
    for media in content.values():
        if "example" in media:
            yield media["schema"], media["example"]
        for example in media.get("examples", {}).values():
            yield media["schema"], example["value"]


def test_document_is_valid():
    validate(DOCUMENT)


def test_operations_have_names_of_their_own():
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))


@each_operation
def test_operation_is_described(operation):
    assert operation["summary"]
    assert operation["tags"]


@each_operation
def test_errors_are_problems(operation):
    errors = {code: answer for code, answer in operation["responses"].items() if code[0] in "45"}
    assert errors
    for answer in errors.values():
        assert list(answer["content"]) == ["application/problem+json"]


@each_operation
def test_examples_fit_their_schemas(operation):
    contents = [answer.get("content", {}) for answer in operation["responses"].values()]
    contents.append(operation.get("requestBody", {}).get("content", {}))
    for content in contents:
        for schema, example in examples(content):
            jsonschema.Draft202012Validator(resolved(schema)).validate(example)


@each_operation
def test_inputs_refuse_unknown_fields(operation):
    for media in operation.get("requestBody", {}).get("content", {}).values():
        for schema in media["schema"].get("anyOf", [media["schema"]]):
            if schema.get("type") in {"null", "string"}:  # a body that is absent, or a file as it is
                continue
            if "$ref" in schema:
                schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
            assert schema["additionalProperties"] is False
