"""The first few entries that a question finds, for tests of settings and for choosing (SPEC L1, S12)."""

from typing import Final

from postern_sync.adapters.ldap import ber
from postern_sync.adapters.ldap.faults import NO_PAGING, SIZE_LIMIT, SUCCESS, UNPAGED, LdapFault, of_search
from postern_sync.adapters.ldap.session import Bounds, Question, Session

MAX_SAMPLE: Final = 16 * 1024 * 1024  # octets of the few entries that are kept
MAX_COUNTED_PAGE: Final = 64 * 1024 * 1024


def first_of(session: Session, question: Question, count: int) -> list[ber.Object]:
    """At most `count` entries, by one page. Raises `LdapFault`."""
    found: list[ber.Object] = []
    bounds = Bounds(count, MAX_SAMPLE)
    ended = session.search(question, found.append, page=count, bounds=bounds)
    if ended.code == NO_PAGING:
        limited = Question(question.base, question.filter_text, question.attributes, question.scope, count)
        ended = session.search(limited, found.append, bounds=bounds)
        if ended.code == SIZE_LIMIT:
            return found
    if ended.code != SUCCESS:
        raise LdapFault(of_search(ended.code))
    return found


def count_of(session: Session, question: Question, page: int, most: int) -> tuple[int, bool]:
    """How many entries there are, and whether that is all: counting stops past `most`."""
    count = 0

    def one_more(_found: ber.Object) -> None:
        nonlocal count
        count += 1

    cookie, bounds = b"", Bounds(page, MAX_COUNTED_PAGE)
    while True:
        ended = session.search(question, one_more, page=page, cookie=cookie, bounds=bounds)
        if ended.code != SUCCESS:
            raise LdapFault(of_search(ended.code))
        if ended.cookie is None:
            raise LdapFault(UNPAGED)
        if not ended.cookie:
            return count, True
        if count >= most:
            return count, False
        cookie = ended.cookie
