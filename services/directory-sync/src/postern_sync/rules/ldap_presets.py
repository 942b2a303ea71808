"""What kinds of LDAP directories call things (SPEC S6, L2, L3): attributes, object classes, identity.

A preset names for each of our words the attributes that hold it, the preferred one first; a customer's `attributes`
replace them. Attributes that a server does not know are not answered, which is no error (RFC 4511 4.5.1.8).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from postern_common.directory_documents import IdKind

PresetName = Literal["ad", "samba", "openldap", "389ds", "freeipa"]
Names = tuple[str, ...]

_PERSON: Final[Mapping[str, Names]] = {
    "mail": ("mail",),
    "proxy_addresses": ("proxyAddresses",),
    "first_name": ("givenName",),
    "last_name": ("sn",),
    "home_phone": ("homePhone",),
    "mobile": ("mobile",),
}


@dataclass(frozen=True, slots=True)
class Preset:
    """`attributes` maps our words to the directory's. `is_ad` tells what only Active Directory has: identity by
    objectGUID, primary groups, the state of a replica, Exchange's kinds of mailboxes. `refs` are attributes by whose
    values groups may name a member instead of its DN.
    """

    id_kind: IdKind
    attributes: Mapping[str, Names]
    user_filter: str
    group_filter: str
    public_folder_filter: str | None = None
    is_ad: bool = False
    refs: Names = ()


_AD: Final = Preset(
    id_kind="objectGUID",
    attributes={
        **_PERSON,
        "id": ("objectGUID",),
        "member": ("member",),
        "company": ("company",),
        "department": ("department",),
        "notes": ("notes", "info"),  # BEHAVIOURS 3.5: `info` is the box "Notes" of the console
        "upn": ("userPrincipalName",),
        "aliases": (),
        "name": ("displayName", "cn"),
        "disabled": ("userAccountControl",),
    },
    user_filter="(&(objectCategory=person)(objectClass=user))",
    group_filter="(|(objectClass=group)(objectClass=msExchDynamicDistributionList))",
    public_folder_filter="(&(objectClass=publicFolder)(|(mail=*)(proxyAddresses=*)))",
    is_ad=True,
)
_OPENLDAP: Final = Preset(
    id_kind="entryUUID",
    attributes={
        **_PERSON,
        "id": ("entryUUID",),
        "member": ("member", "uniqueMember", "memberUid"),
        "company": ("company", "o"),
        "department": ("department", "departmentNumber", "ou"),
        "notes": ("notes", "info", "description"),
        "upn": (),
        "aliases": ("mailAlternateAddress", "mailAlternativeAddress"),
        "name": ("displayName", "cn"),
        "disabled": ("pwdAccountLockedTime", "shadowExpire", "nsAccountLock", "userAccountControl"),
    },
    user_filter="(|(objectClass=person)(objectClass=posixAccount))",
    group_filter="(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
    refs=("uid",),
)
_389DS: Final = Preset(
    id_kind="entryUUID",
    # nsUniqueId is in every version; entryUUID only where its plugin was switched on, which would change identities.
    attributes={**_OPENLDAP.attributes, "id": ("nsUniqueId", "entryUUID")},
    user_filter=_OPENLDAP.user_filter,
    group_filter=_OPENLDAP.group_filter,
    refs=("uid",),
)
_FREEIPA: Final = Preset(
    id_kind="entryUUID",
    attributes={
        **_OPENLDAP.attributes,
        "id": ("ipaUniqueID", "nsUniqueId"),
        "upn": ("krbPrincipalName",),
    },
    # The compat tree shows everybody a second time, as posixAccount and posixGroup alone.
    user_filter="(&(objectClass=person)(objectClass=posixAccount))",
    group_filter="(objectClass=ipaUserGroup)",
    refs=("uid",),
)

PRESETS: Final[Mapping[PresetName, Preset]] = {
    "ad": _AD,
    "samba": _AD,
    "openldap": _OPENLDAP,
    "389ds": _389DS,
    "freeipa": _FREEIPA,
}
