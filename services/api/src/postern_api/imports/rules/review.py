"""What an import does with each row, decided before anything is saved (SPEC U3, U4, T6; CASES 41, 42)."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from postern_api.imports.rules.cells import same_text
from postern_api.imports.rules.columns import TEXTS
from postern_api.imports.rules.rows import Fault, Row
from postern_common.addresses import Address
from postern_common.documents import UserSource

Existing = Literal["update", "skip"]
Document = dict[str, Any]
OF_DIRECTORY: Final = frozenset({UserSource.LDAP.value, UserSource.ENTRA.value})


class Outcome(StrEnum):
    """What happens to a row when the import is applied."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Known:
    """What the customer has: domains, sites by name and id, and whose the addresses are that rows name."""

    domains: Container[str]
    sites: "Sites"
    owners: Mapping[str, str]
    users: Mapping[str, Document]


@dataclass(frozen=True, slots=True)
class Sites:
    """The customer's sites: found by id, or by description where only one has it."""

    descriptions: Mapping[str, str]

    def find(self, text: str) -> str:
        """The id of the site; raises `ValueError` with what is wrong."""
        if text in self.descriptions:
            return text
        found = [site_id for site_id, name in self.descriptions.items() if name.casefold() == text.casefold()]
        if not found:
            raise ValueError("There is no such site.")
        if len(found) > 1:
            raise ValueError("Several sites have this description; name the site's id.")
        return found[0]

    def name_of(self, site_id: str | None) -> str:
        """What an export writes for a site, so that it is found again."""
        if site_id is None:
            return ""
        name = self.descriptions.get(site_id, "")
        try:
            return name if name.strip() == name != "" and self.find(name) == site_id else site_id
        except ValueError:
            return site_id


@dataclass(slots=True)
class Reviewed:
    """The outcome of a row. `after` is what will be written, `before` what is there of it now."""

    number: int
    email: str
    outcome: Outcome
    user_id: str | None = None
    user_version: int | None = None
    before: Document | None = None
    after: Document | None = None
    faults: list[Fault] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Where in the file an address was named first. A row with faults claims nothing but its primary address, and that
    only from other rows' primary addresses: of two rows for one address the second is wrong whatever the first is.
    """

    number: int
    is_primary: bool
    is_good: bool


def review(row: Row, known: Known, existing: Existing, claim_of: Callable[[str], Claim | None]) -> Reviewed:
    """Decide what happens to a row; `claim_of` tells what the rows before it have named."""
    site_id = _site(row, known.sites)
    _check_domains(row, known.domains)
    user = _existing_user(row, known)
    _check_owners(row, known, user)
    _check_within_file(row, claim_of)
    if row.faults or row.address is None:
        return Reviewed(row.number, row.email, Outcome.ERROR, faults=row.faults)
    if user is None:
        after = _new_values(row, site_id)
        return Reviewed(row.number, row.email, Outcome.CREATE, after=after)
    found = Reviewed(row.number, row.email, Outcome.SKIPPED, user["_id"], user["version"])
    if user["source"] in OF_DIRECTORY:
        found.reason = "The user is managed by the directory."
    elif existing == "skip":
        found.reason = "The user is there already."
    else:
        found.before, found.after = _changes(row, user, site_id)
        found.outcome = Outcome.UPDATE if found.after else Outcome.UNCHANGED
    return found


def claims_of(row: Row) -> list[tuple[str, Claim]]:
    """The addresses that later rows may not name."""
    primary = [] if row.address is None else [(row.address.key, Claim(row.number, True, not row.faults))]
    aliases = [] if row.faults else [(alias.key, Claim(row.number, False, True)) for _, alias in row.aliases or ()]
    return primary + aliases


def _check_within_file(row: Row, claim_of: Callable[[str], Claim | None]) -> None:
    """Add the faults of addresses that the row itself, or an earlier one, names already: the first stands."""
    seen: set[str] = set()
    if row.address is not None:
        first = claim_of(row.address.key)
        if first is not None:
            row.faults.append(Fault("email", _named_in(first)))
        seen.add(row.address.key)
    for column, alias in row.aliases or ():
        first = claim_of(alias.key)
        if row.address is not None and alias.key == row.address.key:
            row.faults.append(Fault(column, "This is the row's own primary address."))
        elif alias.key in seen:
            row.faults.append(Fault(column, "This address is in the row twice."))
        elif first is not None and first.is_good:
            row.faults.append(Fault(column, _named_in(first)))
        seen.add(alias.key)


def _named_in(first: Claim) -> str:
    what = "The address" if first.is_primary else "The address, as an alias,"
    return f"{what} is in row {first.number} already."


def _site(row: Row, sites: Sites) -> str | None:
    if not row.site:
        return None
    try:
        return sites.find(row.site)
    except ValueError as error:
        row.faults.append(Fault("site", str(error)))
        return None


def _check_domains(row: Row, domains: Container[str]) -> None:
    named = [("email", row.address)] if row.address is not None else []
    for column, address in [*named, *(row.aliases or ())]:
        if address.domain.ascii not in domains:
            message = f"{address.domain.unicode} is not one of the customer's domains."
            row.faults.append(Fault(column, message))


def _existing_user(row: Row, known: Known) -> Document | None:
    if row.address is None:
        return None
    user = known.users.get(known.owners.get(row.address.key, ""))
    return user if user is not None and user["email_key"] == row.address.key else None


def _check_owners(row: Row, known: Known, user: Document | None) -> None:
    own = None if user is None else user["_id"]
    named = [("email", row.address)] if row.address is not None else []
    for column, address in [*named, *(row.aliases or ())]:
        owner_id = known.owners.get(address.key)
        if owner_id is not None and owner_id != own:
            owner = known.users.get(owner_id)
            whose = "another user" if owner is None else str(owner["email"])
            row.faults.append(Fault(column, f"The address is in use by {whose}."))


def _new_values(row: Row, site_id: str | None) -> Document:
    texts = {name: row.texts.get(name, "") for name in TEXTS}
    aliases = [str(alias) for _, alias in row.aliases or ()]
    return {"email": str(row.address), **texts, "aliases": aliases, "site_id": site_id}


def _changes(row: Row, user: Document, site_id: str | None) -> tuple[Document, Document]:
    """What is there, and what is wanted instead, of the fields that differ."""
    before: Document = {}
    after: Document = {}
    for name, text in row.texts.items():
        if not same_text(user[name], text):
            before[name], after[name] = user[name], text
    if row.site is not None and site_id != user["site_id"]:
        before["site_id"], after["site_id"] = user["site_id"], site_id
    if row.aliases is not None:
        wanted = merged_aliases(user["aliases"], [alias for _, alias in row.aliases])
        present = [alias["address"] for alias in user["aliases"]]
        if {alias["key"] for alias in user["aliases"]} != {alias["key"] for alias in wanted}:
            before["aliases"], after["aliases"] = present, [alias["address"] for alias in wanted]
    return before, after


def merged_aliases(present: Sequence[Document], wanted: Sequence[Address]) -> list[Document]:
    """The aliases after an update: those of the row, and those that a directory gave, which only it takes away."""
    kept = {alias["key"]: alias for alias in present}
    keys = {alias.key for alias in wanted}
    named = [
        kept.get(alias.key) or {"address": str(alias), "key": alias.key, "source": UserSource.CSV.value}
        for alias in wanted
    ]
    return named + [alias for alias in present if alias["key"] not in keys and alias["source"] in OF_DIRECTORY]
