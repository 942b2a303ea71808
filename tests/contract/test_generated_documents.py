"""The committed reference pages and API documents are what the code gives; every example in them is valid."""

import json
from pathlib import Path

import jsonschema
import pytest

from postern_common.asyncapi import build_asyncapi, example
from postern_common.envelope import Envelope
from postern_common.events import CATALOGUE
from postern_common.topology import EXCHANGE
from tools.docs import stale
from tools.pages import PAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.spec("V2")
@pytest.mark.parametrize("name", PAGES)
def test_committed_page_is_what_the_code_gives(name):
    assert list(stale(ROOT, {name: PAGES[name]})) == [], "run `make docs` and commit"


@pytest.mark.spec("V1")
def test_catalogue_holds_the_events_of_the_specification_and_no_other():
    page = (ROOT / "docs/spec.md").read_text(encoding="utf-8")
    listed = page.split("- V1 Names: ")[1].split(". A new one")[0].replace("\n", " ")
    assert sorted(name.strip() for name in listed.split(",")) == sorted(CATALOGUE)


@pytest.mark.spec("V2")
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_example_is_an_event_that_parses_and_fits_its_schema(name):
    document = build_asyncapi()
    schema = document["components"]["schemas"][name]
    whole = example(CATALOGUE[name])
    jsonschema.validate(whole["data"], schema, format_checker=jsonschema.FormatChecker())
    jsonschema.validate(whole, document["components"]["schemas"]["Envelope"])
    event = Envelope.parse(json.dumps(whole).encode()).event()
    assert type(event) is CATALOGUE[name]
    assert event.subject == whole["subject"]
    assert event.customer_id.startswith("cus_")


@pytest.mark.spec("V2")
def test_asyncapi_references_all_lead_somewhere():
    document = build_asyncapi()

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert found
    for reference in found:
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    assert {channel["address"] for channel in document["channels"].values()} == set(CATALOGUE)
    exchanges = {channel["bindings"]["amqp"]["exchange"]["name"] for channel in document["channels"].values()}
    assert exchanges == {EXCHANGE}
