"""Addresses that mail showed and no licence was left for, beside what a directory has (SPEC U5, T6, R4)."""

import pytest

from postern_sync.planning.known import DISCOVERED
from tests.servers.sync_model import entry, plan, rules, user

SHOWN = [("bob@demo.test", DISCOVERED)]


@pytest.mark.spec("R4", "S18")
def test_a_run_does_not_forget_what_mail_showed():
    found = plan([entry("ann")], [user("ann")], known=[*SHOWN, ("old@demo.test", "licence_limit")])
    assert found.labels("forget") == {"old@demo.test"}
    assert found.labels("know") == set()


@pytest.mark.spec("R4")
def test_a_run_forgets_what_mail_showed_once_a_user_has_the_address():
    assert plan([entry("ann")], [user("ann"), user("bob", source="manual")], known=SHOWN).labels("forget") == {
        "bob@demo.test"
    }
    added = plan([entry("bob")], known=SHOWN)
    assert added.labels("add") == added.labels("forget") == {"bob@demo.test"}


@pytest.mark.spec("T6")
def test_without_a_licence_the_address_stays_known_whoever_showed_it():
    found = plan([entry("bob")], sync_rules=rules(licences=0), known=SHOWN)
    assert found.labels("add") == found.labels("forget") == set()
    assert found.labels("know") == {"bob@demo.test"}
