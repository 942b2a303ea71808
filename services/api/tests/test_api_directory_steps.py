"""The steps on the provider's side lead into the form: every field that they name is one of it."""

import pytest

from postern_api.directory.settings.schemas import DirectoryInput
from postern_api.directory.steps.texts import PERMISSIONS, STEPS

SCHEMA = DirectoryInput.model_json_schema()


def _has(field):
    """Whether a JSON pointer leads to a field of the form."""
    _, part, name = field.split("/")
    reference = str(SCHEMA["properties"][part])
    definitions = [value for key, value in SCHEMA["$defs"].items() if f"/{key}'" in reference]
    return any(name in definition.get("properties", {}) for definition in definitions)


@pytest.mark.spec("E4")
def test_the_steps_name_the_four_permissions_the_one_to_remove_and_where_the_three_values_go():
    steps = STEPS["entra"]
    text = " ".join(action for step in steps for action in step.actions)
    assert "single tenant" in text
    assert "User.Read (delegated)" in text
    assert "Grant admin consent" in text
    assert [step.values for step in steps if step.values] == [list(PERMISSIONS)]
    order = [copied.field for step in steps for copied in step.copies]
    assert {"/entra/tenant", "/entra/client_id", "/entra/client_secret"} <= set(order)


@pytest.mark.spec("E4", "L1")
@pytest.mark.parametrize("provider", ["entra", "ldap"])
def test_every_value_to_copy_has_its_field_in_the_form(provider):
    fields = [copied.field for step in STEPS[provider] for copied in step.copies]
    assert fields
    assert [field for field in fields if not _has(field)] == []
