"""The AsyncAPI 3.0 document of Postern's events, built from the catalogue (SPEC V2).

It promises what the contract does: one durable topic exchange, the event's name as routing key, a CloudEvents envelope
with typed `data`. Every message has an example, which is a whole valid event; tests use them as fixtures.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from postern_common.envelope import CONTENT_TYPE, SCHEMA_BASE, Envelope
from postern_common.events import CATALOGUE, Event
from postern_common.topology import EXCHANGE

_EXAMPLE_ID: Final = "evt_0192f0c1a8b47c3e9d215b7f10aa3c01"
_EXAMPLE_TIME: Final = "2026-01-31T12:00:00Z"
_EXAMPLE_TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class _Schema(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """Titles that only repeat the field's name are left out."""
        return False


def example(kind: type[Event]) -> dict[str, Any]:
    """A whole event of that kind, made of its fields' own examples."""
    fields = {field.alias or name: field.examples[0] for name, field in kind.model_fields.items() if field.examples}
    event = kind.model_validate(fields)
    envelope = Envelope.model_validate(
        {
            "id": _EXAMPLE_ID,
            "source": "/postern/api",
            "type": kind.type(),
            "subject": event.subject,
            "time": _EXAMPLE_TIME,
            "dataschema": f"{SCHEMA_BASE}{kind.name()}:v{kind.version}",
            "traceparent": _EXAMPLE_TRACE,
            "data": event.model_dump(mode="json", by_alias=True),
        }
    )
    return envelope.to_document()


def build_asyncapi(version: str = "1.0.0") -> dict[str, Any]:
    """The document, as plain JSON types in a stable order."""
    kinds = [CATALOGUE[name] for name in sorted(CATALOGUE)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Postern events",
            "version": version,
            "description": (
                "CloudEvents 1.0 in structured JSON mode on a durable topic exchange. Delivery is at least once: "
                "deduplicate by `id`. An event and the change it tells of are one transaction. Bind your own queue."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {kind.name(): _channel(kind) for kind in kinds},
        "operations": dict(operation for kind in kinds for operation in _operations(kind)),
        "components": {
            "messages": {kind.name(): _message(kind) for kind in kinds},
            "schemas": {"Envelope": _envelope_schema()} | {kind.name(): _data_schema(kind) for kind in kinds},
        },
    }


def _channel(kind: type[Event]) -> dict[str, Any]:
    return {
        "address": kind.name(),
        "description": _summary(kind),
        "messages": {kind.name(): {"$ref": f"#/components/messages/{kind.name()}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False, "vhost": "/"},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _operations(kind: type[Event]) -> list[tuple[str, dict[str, Any]]]:
    channel = {"$ref": f"#/channels/{kind.name()}"}
    message = {"$ref": f"#/channels/{kind.name()}/messages/{kind.name()}"}
    publish = {
        "action": "send",
        "channel": channel,
        "summary": f"Postern publishes {kind.name()}.",
        "messages": [message],
        "bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": "0.3.0"}},
    }
    operations = [(f"publish{kind.name()}", publish)]
    for service in kind.consumers:
        receive = {
            "action": "receive",
            "channel": channel,
            "summary": f"{service} acts on {kind.name()}.",
            "messages": [message],
            "bindings": {"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
        }
        operations.append((f"{service}.{kind.name()}", receive))
    return operations


def _message(kind: type[Event]) -> dict[str, Any]:
    typed = {
        "type": "object",
        "properties": {"type": {"const": kind.type()}, "data": {"$ref": f"#/components/schemas/{kind.name()}"}},
    }
    return {
        "name": kind.type(),
        "title": kind.name(),
        "summary": _summary(kind),
        "contentType": CONTENT_TYPE,
        "payload": {"allOf": [{"$ref": "#/components/schemas/Envelope"}, typed]},
        "examples": [{"name": kind.name(), "payload": example(kind)}],
    }


def _envelope_schema() -> dict[str, Any]:
    schema = Envelope.model_json_schema(schema_generator=_Schema)
    schema["description"] = _summary(Envelope)
    return schema


def _data_schema(kind: type[Event]) -> dict[str, Any]:
    schema = kind.model_json_schema(by_alias=True, ref_template="{model}", schema_generator=_Schema)
    whole: dict[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return whole | {"description": _summary(kind)}


def _inlined(node: Any, models: Mapping[str, Any]) -> Any:
    """A schema with its models in their places: it is looked at alone, and within the whole document."""
    if isinstance(node, list):
        return [_inlined(one, models) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(models[node["$ref"]], models)
    return {name: _inlined(value, models) for name, value in node.items()}


def _summary(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").split())
