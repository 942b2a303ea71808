"""The addresses of a user, checked before they are kept (SPEC U4, S5, CASES 42)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postern_api.http.problems import Problem, conflict, invalid
from postern_common.addresses import Address, parse_address
from postern_common.documents import DomainState

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Addresses:
    """A primary address and its aliases, none of them twice."""

    primary: Address
    aliases: tuple[Address, ...]

    @classmethod
    def parse(cls, email: str, aliases: Sequence[str]) -> "Addresses":
        """Read them; refuses what is no address, and an address that is there twice."""
        primary = parse_address(email, pointer="/email")
        seen = {primary.key}
        parsed = []
        for number, text in enumerate(aliases):
            alias = parse_address(text, pointer=f"/aliases/{number}")
            if alias.key in seen:
                raise conflict("address-taken", f"The address {alias} is there twice.", pointer=f"/aliases/{number}")
            seen.add(alias.key)
            parsed.append(alias)
        return cls(primary, tuple(parsed))

    @property
    def all(self) -> tuple[Address, ...]:
        """All of them, the primary one first."""
        return (self.primary, *self.aliases)

    @property
    def keys(self) -> list[str]:
        """What they are compared by."""
        return [address.key for address in self.all]

    @property
    def domains(self) -> list[str]:
        """The domains that they are in."""
        return sorted({address.domain.ascii for address in self.all})

    def pointer(self, key: str) -> str:
        """Where in the request the address of a key stands."""
        number = self.keys.index(key)
        return "/email" if number == 0 else f"/aliases/{number - 1}"

    def check_domains(self, states: Mapping[str, DomainState]) -> None:
        """Refuse addresses in domains that the customer has not added."""
        for address in self.all:
            if address.domain.ascii not in states:
                message = f"{address.domain.unicode} is not one of the customer's domains."
                raise invalid(message, self.pointer(address.key), code="domain-not-managed")

    def taken(self, key: str, user_id: str | None = None) -> Problem:
        """The refusal of an address that is in use; whose it is is told only within the customer."""
        address = next(address for address in self.all if address.key == key)
        members = {} if user_id is None else {"existing": {"user_id": user_id}}
        return conflict("address-taken", f"The address {address} is in use.", pointer=self.pointer(key), **members)

    def documents(self, user_id: str, states: Mapping[str, DomainState]) -> list[Document]:
        """What is kept of them in the collection of addresses."""
        return [
            {
                "key": address.key,
                "domain": address.domain.ascii,
                "user_id": user_id,
                "is_primary": number == 0,
                "verified": states[address.domain.ascii] is DomainState.VERIFIED,
            }
            for number, address in enumerate(self.all)
        ]
