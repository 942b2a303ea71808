"""Checks of this repository's own conventions, each a function from a tracked file to findings; `CHECKS` lists them."""

from tools.checks.database import database_only_in_stores, drivers_only_behind_adapters, scope_is_named
from tools.checks.literals import problems_only_from_catalogue, replies_only_from_catalogue
from tools.checks.purity import rules_are_pure
from tools.checks.references import rfc_references_have_one_form
from tools.checks.sizes import files_and_functions_are_short
from tools.checks.source import Check, Finding, Source, tracked_sources
from tools.checks.text import (
    lock_files_name_no_place,
    nothing_left_to_do,
    registry_hosts_stay_out,
    text_names_no_machine,
)

CHECKS: tuple[Check, ...] = (
    database_only_in_stores,
    scope_is_named,
    drivers_only_behind_adapters,
    rules_are_pure,
    replies_only_from_catalogue,
    problems_only_from_catalogue,
    files_and_functions_are_short,
    rfc_references_have_one_form,
    text_names_no_machine,
    registry_hosts_stay_out,
    nothing_left_to_do,
    lock_files_name_no_place,
)

__all__ = ["CHECKS", "Check", "Finding", "Source", "tracked_sources"]
