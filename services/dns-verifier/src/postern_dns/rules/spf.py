"""The daily state of a verified domain's SPF record: one record, with our include and a closing `all` (SPEC D4, R9).

This reads the record as text and evaluates nothing: no further look-ups are made.
"""

from postern_dns.rules.answers import Look
from postern_dns.rules.mx import MailVerdict

_QUALIFIERS = "+-~?"


def judge(look: Look, include: str) -> MailVerdict:
    """Judge the SPF record among the TXT records of a domain; `include` is the name that it should include."""
    if not look.is_definite:
        text = f"The name servers of {look.name} could not tell its TXT records just now."
        return MailVerdict("cannot_tell", (), text)
    found = tuple(record for record in look.agreed() if is_spf(record))
    if not found:
        advice = f" Publish v=spf1 include:{include} -all." if include else ""
        return MailVerdict("fail", (), f"{look.name} has no SPF record.{advice}")
    if len(found) > 1:  # RFC 7208 4.5
        text = f"{look.name} has {len(found)} SPF records, which receivers treat as an error; merge them into one."
        return MailVerdict("fail", found, text)
    return _judge_record(look.name, found[0], include.lower().rstrip("."))


def is_spf(record: str) -> bool:
    """True if a TXT record is an SPF record, whatever its case (RFC 7208 4.5, 12)."""
    return record.lower() == "v=spf1" or record.lower().startswith("v=spf1 ")


def _judge_record(name: str, record: str, include: str) -> MailVerdict:
    terms = record.lower().split()[1:]
    mechanisms = [term.lstrip(_QUALIFIERS) for term in terms]
    closing = mechanisms.index("all") if "all" in mechanisms else None
    if closing is not None and terms[closing] in {"all", "+all"}:  # RFC 7208 4.6.2: no qualifier means +
        text = f"The SPF record of {name} ends in +all, which lets everybody send in its name."
        return MailVerdict("fail", (record,), text)
    effective = mechanisms if closing is None else mechanisms[:closing]
    wanted = f"include:{include}"
    if include and wanted not in [term.rstrip(".") for term in effective]:
        where = "after its “all” term, where it has no effect" if wanted in mechanisms else "missing"
        text = f"In the SPF record of {name}, {wanted} is {where}: mail sent through us may be taken for forged."
        return MailVerdict("warn", (record,), text)
    if closing is None and not any(term.startswith("redirect=") for term in terms):
        text = f"The SPF record of {name} has no “all” term, so it says nothing of other servers; end it with -all."
        return MailVerdict("warn", (record,), text)
    return MailVerdict("ok", (record,), f"The SPF record of {name} is in order.")
