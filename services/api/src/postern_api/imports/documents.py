"""Users as an import writes them: the same documents as those entered by hand (SPEC U1), with the source `csv`."""

from datetime import datetime
from typing import Any

from postern_api.imports.rules.columns import TEXTS
from postern_api.imports.rules.review import merged_aliases
from postern_api.users.addresses import Addresses
from postern_api.users.schemas import UserSettings
from postern_common.addresses import parse_address
from postern_common.documents import UserSource, UserState

Document = dict[str, Any]


def new_user(row: Document, addresses: Addresses, now: datetime) -> Document:
    """The user that a row creates, under the id that the review gave it."""
    after = row["after"]
    return {
        "_id": row["user_id"],
        "email": str(addresses.primary),
        "email_key": addresses.primary.key,
        "aliases": merged_aliases([], addresses.aliases),
        "kind": "user",
        "source": UserSource.CSV.value,
        **{name: after[name] for name in TEXTS},
        "site_id": after["site_id"],
        "settings": UserSettings.model_validate({}).model_dump(),
        "state": UserState.ACTIVE.value,
        "flagged_at": None,
        "due_at": None,
        "flag_reason": None,
        "external_id": None,
        "external_id_kind": None,
        "immutable_id": None,
        "directory_state": None,
        "created_at": now,
        "updated_at": now,
        "version": 1,
    }


def update_of(row: Document, user: Document) -> Document:
    """The fields that a row changes, as they are kept."""
    changes = dict(row["after"])
    if "aliases" in changes:
        changes["aliases"] = merged_aliases(user["aliases"], [parse_address(text) for text in changes["aliases"]])
    return changes
