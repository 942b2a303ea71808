"""The daily state of a verified domain's SPF record: one record, with our include and a closing `all`, that receivers
can evaluate within their limits of DNS look-ups (SPEC D4, R9).

It judges what is published, not a message: no sender is checked, and macros stay as they are. Servers that cannot tell
what the record leads to are never held against it.
"""

from collections.abc import Iterable
from typing import Final

from postern_dns.rules.answers import Look
from postern_dns.rules.mx import MailVerdict
from postern_dns.rules.spf_budget import MAX_TERMS, Answers, Question, Tally, count
from postern_dns.rules.spf_record import BadTerm, Term, effective, is_spf, parse

MAX_LOOKUPS: Final = 10  # RFC 7208 4.6.4
MAX_VOIDS: Final = 2


def judge(look: Look, include: str, answers: Answers) -> MailVerdict:
    """Judge the SPF record among a domain's TXT records by `answers` to all that `questions` asks.

    `include` is the name that it should include.
    """
    form = _judge_form(look, include)
    if form.state in {"fail", "cannot_tell"}:
        return form
    return _judge_cost(look.name, form, _count(look.name, form.found[0], answers))


def questions(look: Look, answers: Answers) -> tuple[Question, ...]:
    """What to ask next to know what the record costs; none if all is known, or the record fails by itself."""
    form = _judge_form(look, "")
    if form.state in {"fail", "cannot_tell"}:
        return ()
    return tuple(dict.fromkeys(_count(look.name, form.found[0], answers).open))


def _count(name: str, record: str, answers: Answers) -> Tally:
    return count(name, parse(record), answers)


# -- the record by itself ---------------------------------------------------------------------------------------------


def _judge_form(look: Look, include: str) -> MailVerdict:
    if not look.is_definite:
        text = f"The name servers of {look.name} could not tell its TXT records just now."
        return MailVerdict("cannot_tell", (), text, is_told=False)
    found = tuple(record for record in look.agreed() if is_spf(record))
    if not found:
        advice = f" Publish v=spf1 include:{include} -all." if include else ""
        return MailVerdict("fail", (), f"{look.name} has no SPF record.{advice}")
    if len(found) > 1:  # RFC 7208 4.5
        text = f"{look.name} has {len(found)} SPF records, which receivers treat as an error; merge them into one."
        return MailVerdict("fail", found, text)
    try:
        terms = parse(found[0])
    except BadTerm as error:
        text = f"The SPF record of {look.name} has the invalid term {error}, which receivers treat as an error."
        return MailVerdict("fail", found, text)
    return _judge_terms(look.name, found, terms, include.lower().rstrip("."))


def _judge_terms(name: str, found: tuple[str, ...], terms: tuple[Term, ...], include: str) -> MailVerdict:
    closing = next((term for term in terms if term.name == "all"), None)
    if closing is not None and closing.qualifier in {"", "+"}:  # RFC 7208 4.6.2: no qualifier means +
        text = f"The SPF record of {name} ends in +all, which lets everybody send in its name."
        return MailVerdict("fail", found, text)
    if include and include not in _included(effective(terms)):
        where = "after its “all” term, where it has no effect" if include in _included(terms) else "missing"
        text = (
            f"In the SPF record of {name}, include:{include} is {where}: mail sent through us may be taken for forged."
        )
        return MailVerdict("warn", found, text)
    if closing is None and not any(term.name == "redirect" for term in terms):
        text = f"The SPF record of {name} has no “all” term, so it says nothing of other servers; end it with -all."
        return MailVerdict("warn", found, text)
    return MailVerdict("ok", found, f"The SPF record of {name} is in order.")


def _included(terms: Iterable[Term]) -> set[str | None]:
    return {term.domain for term in terms if term.name == "include"}


# -- what it costs ----------------------------------------------------------------------------------------------------


def _judge_cost(name: str, form: MailVerdict, tally: Tally) -> MailVerdict:
    untold = dict.fromkeys([*tally.untold, *(question.name for question in tally.open)])
    if untold:
        text = f"The SPF record of {name} leads to names that could not be looked up just now: {', '.join(untold)}."
        return MailVerdict("cannot_tell", form.found, text, is_told=False)
    note = _macro_note(tally)
    if tally.total > MAX_LOOKUPS:
        return MailVerdict("fail", form.found, f"{_dear(name, tally)}{note}")
    if tally.errors:
        errors = "; ".join(dict.fromkeys(tally.errors))
        text = f"Receivers treat the SPF record of {name} as an error: {errors}."
        return MailVerdict("fail", form.found, f"{text}{note}")
    if len(tally.voids) > MAX_VOIDS:
        text = (
            f"{len(tally.voids)} terms of the SPF record of {name} find nothing in the DNS, and receivers may treat "
            f"more than {MAX_VOIDS} as an error: {', '.join(tally.voids)}."
        )
        before = f"{form.explanation} " if form.state == "warn" else ""
        return MailVerdict("warn", form.found, f"{before}{text}{note}")
    return MailVerdict(form.state, form.found, f"{form.explanation}{note}")


def _dear(name: str, tally: Tally) -> str:
    amount = f"more than {MAX_TERMS}" if tally.is_cut else str(tally.total)
    costs = ", ".join(f"{term.shown} {cost}" for term, cost in tally.costs if cost)
    loops = "".join(f" {error}." for error in dict.fromkeys(tally.errors))
    return (
        f"The SPF record of {name} takes {amount} DNS look-ups, and receivers treat more than {MAX_LOOKUPS} as an "
        f"error: {costs}.{loops}"
    )


def _macro_note(tally: Tally) -> str:
    if not tally.unresolved:
        return ""
    terms = ", ".join(dict.fromkeys(tally.unresolved))
    return f" Counted but not followed, as they depend on the message: {terms}."
