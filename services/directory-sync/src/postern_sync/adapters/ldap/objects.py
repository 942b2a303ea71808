"""Single objects of a directory: values taken out of an answer, and questions about one entry."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from postern_sync.adapters.ldap import ber
from postern_sync.adapters.ldap.faults import TOO_LARGE, LdapFault
from postern_sync.adapters.ldap.ranges import ATTEMPTS, Ask, block_of, read_once, size_of
from postern_sync.adapters.ldap.session import Bounds, Question, Session
from postern_sync.adapters.ldap.streaming import MAX_MESSAGE

MAX_VALUES: Final = 10_000
MAX_OCTETS: Final = 4 * 1024 * 1024  # of the values of one entry, members apart
ONE: Final = Bounds(1, MAX_MESSAGE)
ANYTHING: Final = "(objectClass=*)"
Octets = dict[str, list[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question about one entry came to; a result of success without an entry is one that may not be seen."""

    code: int
    entry: ber.Object | None


@dataclass(frozen=True, slots=True)
class Asking:
    """Questions about single entries."""

    session: Session
    on_references: Callable[[list[str]], None]

    def one(self, dn: str, attributes: tuple[str, ...]) -> Answer:
        """Read one entry."""
        found: list[ber.Object] = []
        question = Question(dn, ANYTHING, attributes, "BASE")
        ended = self.session.search(question, found.append, on_references=self.on_references, bounds=ONE)
        return Answer(ended.code, found[0] if found else None)

    def attribute(self, dn: str) -> Ask:
        """A way to ask for one of the entry's attributes at a time."""

        def ask(description: str) -> tuple[int, ber.Object | None]:
            answer = self.one(dn, (description,))
            return answer.code, answer.entry

        return ask


def octets_of(found: ber.Object, leave: Iterable[str] = ()) -> Octets:
    """An entry's values by attribute in lower case, but for those of `leave`. Raises `Malformed` for too many."""
    left = {name.lower() for name in leave}
    taken: Octets = {}
    octets = 0
    for description, values in found.attributes.items():
        name = description.lower()
        if name.partition(";")[0] in left:
            continue
        kept = taken[name] = []
        for value in values:
            octets += len(value)
            if len(kept) >= MAX_VALUES or octets > MAX_OCTETS:
                raise ber.Malformed
            kept.append(value)
    return taken


def ranged(found: ber.Object, names: Iterable[str]) -> list[str]:
    """Those attributes of which the answer held a range only."""
    if not any(";range=" in description.lower() for description in found.attributes):
        return []
    return [name for name in names if block_of(found.attributes, name) is not None]


def read_values(name: str, ask: Ask) -> list[bytes] | None:
    """All values of an attribute that comes in ranges; None where they could not be read whole."""
    for attempt in range(ATTEMPTS):
        values: list[bytes] = []
        if read_once(name, ask, _putter(values), size_of(attempt)):
            return values
    return None


def _putter(kept: list[bytes]) -> Callable[[list[bytes]], None]:
    octets = 0

    def put(values: list[bytes]) -> None:
        nonlocal octets
        octets += sum(map(len, values))
        if len(kept) + len(values) > MAX_VALUES or octets > MAX_OCTETS:
            raise LdapFault(TOO_LARGE)
        kept.extend(values)

    return put
