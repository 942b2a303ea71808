"""The catalogue and its envelope."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postern_common import topology
from postern_common.envelope import Envelope
from postern_common.errors import Rejected
from postern_common.events import BY_TYPE, CATALOGUE, DomainAdded, Event

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def example(kind: type[Event]) -> Event:
    """An event made of the fields' own examples."""
    fields = {field.alias or name: (field.examples or [None])[0] for name, field in kind.model_fields.items()}
    return kind.model_validate(fields)


@pytest.mark.spec("V1")
def test_the_catalogue_has_every_event_of_the_specification_and_no_other():
    text = Path(__file__).parents[3].joinpath("docs/spec.md").read_text(encoding="utf-8")
    rule = re.search(r"V1 Names: (.*?)\. A new one", text, re.DOTALL)
    assert rule is not None
    assert set(re.findall(r"[A-Z]\w+", rule.group(1))) == set(CATALOGUE)


@pytest.mark.spec("V2")
@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=lambda kind: kind.name())
def test_every_event_has_described_fields_with_examples_and_survives_its_envelope(kind):
    assert kind.__doc__
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert field.examples, name
    event = example(kind)
    envelope = Envelope.of(event, service="api", now=NOW)
    again = Envelope.parse(envelope.to_json())
    assert again.event() == event
    assert again.name == kind.name()
    assert again.data["customer_id"] == event.customer_id


@pytest.mark.spec("V2")
def test_an_envelope_is_cloudevents_in_structured_mode():
    event = DomainAdded(customer_id="cus_1", domain_id="dom_1", name_="example.com", deadline=NOW)
    body = json.loads(Envelope.of(event, service="api", now=NOW).to_json())
    assert body["specversion"] == "1.0"
    assert body["type"] == "com.postern.DomainAdded.v1"
    assert body["source"] == "/postern/api"
    assert body["subject"] == "dom_1"
    assert body["id"].startswith("evt_")
    assert body["time"] == "2026-01-31T12:00:00Z"
    assert body["data"] == {
        "customer_id": "cus_1",
        "domain_id": "dom_1",
        "name": "example.com",
        "deadline": "2026-01-31T12:00:00Z",
    }


@pytest.mark.spec("V2")
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"id": 1}', b"\xff\xfe", b'{"specversion": "1.0"}'])
def test_what_is_no_envelope_is_refused(body):
    with pytest.raises(Rejected):
        Envelope.parse(body)


@pytest.mark.spec("V2")
def test_an_unknown_version_and_missing_data_are_refused():
    known = Envelope.of(example(DomainAdded), service="api", now=NOW)
    for change in ({"type": "com.postern.DomainAdded.v9"}, {"data": {"customer_id": "cus_1"}}):
        with pytest.raises(Rejected):
            known.model_copy(update=change).event()


@pytest.mark.spec("V2")
def test_an_added_optional_field_is_ignored_by_an_older_consumer():
    known = Envelope.of(example(DomainAdded), service="api", now=NOW)
    newer = known.model_copy(update={"data": {**known.data, "colour": "blue"}})
    assert newer.event() == example(DomainAdded)


@pytest.mark.spec("V3")
def test_every_consumer_of_the_catalogue_has_its_queues_with_a_limit_and_a_dead_letter_queue():
    names = {queue.name: queue for queue in topology.all_queues()}
    for kind in BY_TYPE.values():
        for service in kind.consumers:
            main = names[topology.main_queue(service)]
            assert kind.name() in main.bindings
            assert main.arguments["x-queue-type"] == "quorum"
            assert main.arguments["x-delivery-limit"] > 0
            assert main.arguments["x-dead-letter-routing-key"] == topology.dead_queue(service)
            assert topology.dead_queue(service) in names
            assert topology.retry_queue(service, 1) in names
            assert topology.retry_queue(service, 99) in names
