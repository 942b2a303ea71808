"""What an SPF record costs receivers in DNS look-ups, all that it includes counted in (RFC 7208 4.6.4).

A pure walk over what was looked up so far, which also tells what to look up next: ask, walk again, until nothing is
open. Every term that may be evaluated counts, as if none before it matched. It goes level by level and ends at
`MAX_TERMS`, and a term takes two questions at most, so neither a loop nor a hostile record costs more than 60.

The hosts of an `mx` term are counted by themselves, without their addresses being looked up: how many there are is all
that their limit is about, and a host without an address of one family is no void term. An `a` term is void if its name
has no address at all. A term with a macro counts but is not followed, because what it names depends on the message.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from postern_dns.rules.answers import Look, is_open_alias
from postern_dns.rules.spf_record import BadTerm, Term, effective, is_spf, parse

MAX_TERMS: Final = 30
MAX_HOSTS: Final = 10

_COUNTED: Final = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})
_FAMILIES: Final = {"a": ("A", "AAAA"), "exists": ("A",)}  # RFC 7208 5.7: exists asks for A, whatever the client


class Question(NamedTuple):
    """A name and the type of records asked for."""

    name: str
    kind: str


Answers = Mapping[Question, Look]


@dataclass(slots=True)
class Tally:
    """What a record costs, as far as the answers tell.

    `costs` has the counted terms of the record itself with all that is below each. `is_cut` if there are more than
    were walked. `untold` are the names that no server could tell about, `errors` what receivers treat as an error.
    """

    costs: list[tuple[Term, int]]
    voids: list[str]
    errors: list[str]
    unresolved: list[str]
    untold: list[str]
    open: list[Question]
    is_cut: bool = False

    @property
    def total(self) -> int:
        """How many terms count, up to `MAX_TERMS`."""
        return sum(cost for _, cost in self.costs)


@dataclass(frozen=True, slots=True)
class _Step:
    """A term to be counted: below which term of the first record, and by which records it was reached."""

    term: Term
    top: int
    path: tuple[str, ...]


def count(domain: str, terms: tuple[Term, ...], answers: Answers) -> Tally:
    """Count the terms of `domain`'s record, and of all records that it leads to."""
    top = _counted(terms)
    walk = _Walk(Tally([(term, 0) for term in top], [], [], [], [], []), answers)
    steps = deque(_Step(term, index, (domain,)) for index, term in enumerate(top))
    tally = walk.tally
    while steps and tally.total < MAX_TERMS:
        step = steps.popleft()
        term, cost = tally.costs[step.top]
        tally.costs[step.top] = (term, cost + 1)
        steps.extend(walk.follow(step))
    tally.is_cut = bool(steps)
    return tally


def _counted(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    return tuple(term for term in effective(terms) if term.name in _COUNTED)


class _Walk:
    """Follows terms by the answers, and writes down in the tally what it meets."""

    def __init__(self, tally: Tally, answers: Answers) -> None:
        self.tally = tally
        self._answers = answers

    def follow(self, step: _Step) -> tuple[_Step, ...]:
        """The terms that the term of `step` leads to."""
        term = step.term
        if term.has_macro:
            self.tally.unresolved.append(term.shown)
        elif term.name in {"include", "redirect"}:
            return self._enter(step, term.domain or "")
        elif term.name == "mx":
            self._mx(term, term.domain or step.path[-1])
        elif term.name in _FAMILIES:
            self._addresses(term, term.domain or step.path[-1])
        return ()

    def _enter(self, step: _Step, name: str) -> tuple[_Step, ...]:
        if name in step.path:
            self.tally.errors.append(f"{step.term.shown} leads back to a record that it came from")
            return ()
        texts = self._records(name, "TXT")
        if texts is None:
            return ()
        if not texts:
            self.tally.voids.append(step.term.shown)
        found = [text for text in texts if is_spf(text)]
        if len(found) != 1:  # RFC 7208 5.2, 6.1
            amount = f"{len(found)} SPF records" if found else "no SPF record"
            self.tally.errors.append(f"{step.term.shown} leads to {amount}")
            return ()
        try:
            terms = parse(found[0])
        except BadTerm as error:
            self.tally.errors.append(f"{step.term.shown} leads to a record with the invalid term {error}")
            return ()
        return tuple(_Step(term, step.top, (*step.path, name)) for term in _counted(terms))

    def _mx(self, term: Term, name: str) -> None:
        hosts = self._records(name, "MX")
        if hosts is not None and not hosts:
            self.tally.voids.append(term.shown)
        elif hosts is not None and len(hosts) > MAX_HOSTS:
            self.tally.errors.append(f"{term.shown} finds {len(hosts)} mail hosts of at most {MAX_HOSTS}")

    def _addresses(self, term: Term, name: str) -> None:
        for kind in _FAMILIES[term.name]:
            if self._records(name, kind) != ():
                return
        self.tally.voids.append(term.shown)

    def _records(self, name: str, kind: str) -> tuple[str, ...] | None:
        """The records, none of them where there are none; None if that is not known."""
        question = Question(name, kind)
        look = self._answers.get(question)
        if look is None:
            self.tally.open.append(question)
            return None
        # RFC 7208 2.6.6: servers that fail, or a CNAME that leads nowhere, are no verdict.
        if not look.is_definite or any(is_open_alias(answer) for answer in look.voters):
            self.tally.untold.append(name)
            return None
        return look.agreed()
