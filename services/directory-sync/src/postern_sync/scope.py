"""What a run goes by and asks for, taken from the stored settings (SPEC S4 to S12, S16)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from postern_sync.rules.entries import Addition, Mailbox, SyncRules
from postern_sync.rules.proof import Proof, scope_hash, scope_parts

Document = dict[str, Any]
# What decides which entries a complete read has, for each provider: what is asked, where, and as whom.
_ASKED: Final = {
    "ldap": (
        "host",
        "port",
        "user",
        "preset",
        "base_dn",
        "user_filter",
        "group_filter",
        "attributes",
        "primary_from_upn",
    ),
    "entra": ("tenant", "cloud", "user_filter"),
}
_OPTIONS: Final = ("include_disabled", "include_public_folders", "include_hidden")


def scope_of(directory: Document, exceptions: Iterable[Document], place: str = "") -> str:
    """Names what a run asks of the directory: absences count at once only where it is the same as last time.

    `place` is what the reader decided beside the settings.
    """
    return scope_hash(_question(directory, place), _excepted(exceptions))


def parts_of(directory: Document, exceptions: Iterable[Document], place: str = "") -> dict[str, str]:
    """What `scope_of` is made of, each part by its name, so that it can be told which one has changed."""
    return scope_parts(_question(directory, place), _excepted(exceptions))


def _question(directory: Document, place: str) -> Document:
    provider = directory["provider"]
    settings = directory[provider] or {}
    question = {name: settings.get(name) for name in _ASKED[provider]}
    question |= {name: directory[name] for name in _OPTIONS}
    return question | ({"place": place} if place else {})


def _excepted(exceptions: Iterable[Document]) -> list[tuple[str, str]]:
    return [(found["kind"], found["external_id"] or found["key"] or "") for found in exceptions]


def rules_of(
    customer: Document,
    directory: Document,
    domains: Mapping[str, str],
    exceptions: Iterable[Document],
    additions: Iterable[Document],
    proof: Proof,
) -> SyncRules:
    """The rules of one run."""
    excepted = list(exceptions)
    return SyncRules(
        source=directory["provider"],
        managed=frozenset(domains),
        verified=frozenset(name for name, state in domains.items() if state == "verified"),
        licences=customer["allowed_users"],
        excepted_ids=frozenset(found["external_id"] for found in excepted if found["external_id"]),
        excepted_keys=frozenset(found["key"] for found in excepted if found["key"]),
        additions=tuple(
            Addition(mailbox, found["first_name"], found["last_name"])
            for found in additions
            if (mailbox := Mailbox.parse(found["address"])) is not None
        ),
        is_complete=proof.is_complete,
        switched="provider_switch" in proof.holds,
        rescoped="filter" in proof.holds,
        absent_runs=directory["absent_runs"],
        **{name: directory[name] for name in _OPTIONS},
    )
