"""Who may do what (SPEC T2): one table from roles to permissions, and the principal that it is asked about.

A token may carry scopes: it may do what its role and its scopes both allow. Nobody hands out more than they have.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a principal is."""

    PLATFORM_ADMIN = "platform_admin"
    PARTNER_ADMIN = "partner_admin"
    CUSTOMER_ADMIN = "customer_admin"
    CUSTOMER_AUDITOR = "customer_auditor"


class Permission(StrEnum):
    """What a route asks for. `:read` looks, `:write` changes."""

    CUSTOMERS_READ = "customers:read"
    CUSTOMERS_WRITE = "customers:write"
    CUSTOMERS_CREATE = "customers:create"
    CUSTOMERS_DELETE = "customers:delete"
    LICENCES_READ = "licences:read"
    LICENCES_WRITE = "licences:write"
    TOKENS_READ = "tokens:read"
    TOKENS_WRITE = "tokens:write"
    DOMAINS_READ = "domains:read"
    DOMAINS_WRITE = "domains:write"
    SITES_READ = "sites:read"
    SITES_WRITE = "sites:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    DIRECTORY_READ = "directory:read"
    DIRECTORY_WRITE = "directory:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    SELF_WRITE = "self:write"

    @property
    def changes(self) -> bool:
        """Whether it is about changing something."""
        return not self.endswith(":read")


_ABOVE_CUSTOMERS: Final = frozenset(
    {Permission.CUSTOMERS_CREATE, Permission.CUSTOMERS_DELETE, Permission.LICENCES_WRITE}
)
_READS: Final = frozenset(permission for permission in Permission if not permission.changes)

GRANTS: Final[dict[Role, frozenset[Permission]]] = {
    Role.PLATFORM_ADMIN: frozenset(Permission),
    Role.PARTNER_ADMIN: frozenset(Permission),
    Role.CUSTOMER_ADMIN: frozenset(Permission) - _ABOVE_CUSTOMERS,
    Role.CUSTOMER_AUDITOR: _READS | {Permission.SELF_WRITE},
}

# Roles that a holder of the role may hand out with a token of their own level.
MAY_GIVE: Final[dict[Role, frozenset[Role]]] = {
    Role.PLATFORM_ADMIN: frozenset({Role.PLATFORM_ADMIN}),
    Role.PARTNER_ADMIN: frozenset({Role.PARTNER_ADMIN}),
    Role.CUSTOMER_ADMIN: frozenset({Role.CUSTOMER_ADMIN, Role.CUSTOMER_AUDITOR}),
    Role.CUSTOMER_AUDITOR: frozenset({Role.CUSTOMER_AUDITOR}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `owner_id` is whose tokens and sessions these are.

    `expires_at` bounds what a token may create; `ancestors` are the tokens that a token came from: it ends with each.
    """

    id: str
    owner_id: str
    name: str
    role: Role
    partner_id: str | None
    customer_ids: frozenset[str]
    scopes: frozenset[Permission] | None
    expires_at: datetime
    session_id: str | None = None
    csrf_token: str | None = None
    ancestors: tuple[str, ...] = ()

    @property
    def is_token(self) -> bool:
        """Whether it is a machine with a token rather than a person signed in."""
        return self.session_id is None

    def may(self, permission: Permission) -> bool:
        """Whether role and scopes allow it."""
        return permission in GRANTS[self.role] and (self.scopes is None or permission in self.scopes)

    @property
    def permissions(self) -> frozenset[Permission]:
        """All that it may do."""
        return GRANTS[self.role] if self.scopes is None else GRANTS[self.role] & self.scopes

    def sees(self, customer_id: str, partner_id: str | None) -> bool:
        """Whether the customer is one of those that it administers (SPEC T1)."""
        if self.role is Role.PLATFORM_ADMIN:
            return True
        if self.role is Role.PARTNER_ADMIN:
            return partner_id is not None and partner_id == self.partner_id
        return customer_id in self.customer_ids
