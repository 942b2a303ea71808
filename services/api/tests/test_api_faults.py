"""Mistakes in fields are told in plain words, never in those of the schema library."""

import pytest
from pydantic import ValidationError

from postern_api.customers.schemas import CustomerPatch, NewCustomer
from postern_api.http.etag import IfMatch
from postern_api.http.faults import explain, models_in
from postern_api.http.problems import Problem
from postern_api.users.schemas import NewUser


def messages(model, body):
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    return [explain({**fault, "loc": ("body", *fault["loc"])}, [model]) for fault in refused.value.errors()]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "this field is required"),
        ([], "a JSON object is expected"),
        ("text", "a JSON object is expected"),
        ({"name": 1}, "a text is expected"),
        ({"name": ""}, "at least 1 characters are needed"),
        ({"name": "x" * 201}, "at most 200 characters are allowed"),
        ({"name": "x", "partner_id": "y"}, "this has not the form that is needed here"),
        ({"name": "x", "allowed_users": "2"}, "a whole number is expected"),
        ({"name": "x", "allowed_users": -1}, "the number must be 0 or more"),
        ({"name": "x", "allowed_users": 10**9}, "the number must be 10000000 or less"),
        ({"name": "x", "plus_addressing": "maybe"}, "true or false is expected"),
        ({"name": "x", "recipient_mode": "all"}, "one of these is expected: 'accept_all', 'known_only' or 'discover'"),
        ({"name": "x", "deletion_delay_days": 8}, "one of these is expected: 7, 14 or 30"),
        ({"name": "a\nb"}, "control characters and line ends are not allowed"),
    ],
)
def test_a_mistake_is_told_in_plain_words(body, message):
    found = messages(NewCustomer, body)
    assert len(found) == 1
    assert sorted(found[0].split()) == sorted(message.split()) or found[0] == message


def test_an_unknown_field_is_answered_with_the_known_ones():
    (found,) = messages(CustomerPatch, {"nmae": "x"})
    assert found.startswith("unknown field; known fields are: allowed_users, ")
    assert "name" in found


def test_an_unknown_field_further_in_is_answered_with_the_known_ones_there():
    (found,) = messages(CustomerPatch, {"retention": {"days": 1}})
    assert found == ("unknown field; known fields are: audit_days, deleted_users_days, quarantine_days, trace_days")


def test_a_list_is_expected_where_there_is_one():
    assert "a list is expected" in messages(NewUser, {"email": "a@example.com", "aliases": "b"})


def test_models_are_found_through_options_and_lists():
    assert models_in(list[CustomerPatch] | None) == [CustomerPatch]


@pytest.mark.parametrize("header", ["2", '"2", 3', 'w/"2"'])
def test_a_tag_without_quotes_is_refused_with_the_reason(header):
    with pytest.raises(Problem, match="stand in quotes") as refused:
        IfMatch(header)
    assert refused.value.status == 400


def test_a_weak_tag_never_matches():
    with pytest.raises(Problem) as refused:
        IfMatch('W/"2"').check(2)
    assert refused.value.status == 412
