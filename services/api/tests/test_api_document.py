"""The OpenAPI document is valid and complete: every operation and field explains itself."""

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from postern_api.app import create_app

DOCUMENT = create_app().openapi()
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
SCHEMAS = DOCUMENT["components"]["schemas"]


def test_the_document_is_valid():
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert list(OpenAPIV31SpecValidator({**DOCUMENT, "info": {}}).iter_errors())


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_operation_is_explained(name, operation):
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert len(operation["tags"]) == 1
    assert {"422", "503"} <= set(operation["responses"])
    if operation.get("security") != []:
        assert {"401", "403"} <= set(operation["responses"])
    # What agents send is repeatable by its own names: runs, uploads, numbers of pages.
    is_agents = " /v1/agent/" in name
    if name.startswith("POST") and "auth/sign-in" not in name and not is_agents:
        assert any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    if name.split()[0] in {"PUT", "PATCH"} and not is_agents:
        assert {"412", "428"} <= set(operation["responses"])
        # Where a PUT may be the first one, there is nothing to match yet.
        (if_match,) = [one for one in operation["parameters"] if one["name"].lower() == "if-match"]
        assert if_match["required"] == ("201" not in operation["responses"])
    if "201" in operation["responses"]:
        assert "Location" in operation["responses"]["201"]["headers"]
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            content = answer["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content["example"]["status"] == int(status)
    for parameter in operation.get("parameters", ()):
        assert parameter["description"], parameter["name"]
        assert "example" in parameter or "examples" in parameter or "examples" in parameter["schema"], parameter["name"]


def test_operation_ids_are_unique_and_named_by_noun_and_verb():
    ids = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(ids) == len(set(ids))
    assert all(one.replace("_", "").islower() and "_" in one for one in ids)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_field_is_explained_and_has_an_example(name):
    schema = SCHEMAS[name]
    assert schema.get("description") or "enum" in schema or name.startswith("Page"), name
    for field, shape in schema.get("properties", {}).items():
        assert shape.get("description"), f"{name}.{field}"
        is_nested = "$ref" in str(shape) and "examples" not in shape
        assert "examples" in shape or is_nested or "const" in shape, f"{name}.{field}"


@pytest.mark.parametrize("name", sorted(name for name in SCHEMAS if name.startswith("New") or name.endswith("Patch")))
def test_inputs_refuse_unknown_fields(name):
    assert SCHEMAS[name]["additionalProperties"] is False
    if name.endswith("Patch"):
        assert not any("default" in shape for shape in SCHEMAS[name]["properties"].values())
        assert "required" not in SCHEMAS[name]
