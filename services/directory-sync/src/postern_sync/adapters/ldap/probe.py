"""The test of a directory's settings: which step works, and precisely what fails (SPEC L1)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from postern_common.directory_documents import LdapDocument
from postern_common.ldap_filter import FilterError
from postern_common.netguard import NetGuard
from postern_sync.adapters.ldap import ber, network, tls
from postern_sync.adapters.ldap.faults import SUCCESS, Fault, LdapFault, of_search
from postern_sync.adapters.ldap.objects import ANYTHING, ONE, octets_of
from postern_sync.adapters.ldap.reader import Section, sections_of
from postern_sync.adapters.ldap.sampling import count_of, first_of
from postern_sync.adapters.ldap.session import Access, Question, Session
from postern_sync.adapters.ldap.threads import Wire, in_thread
from postern_sync.rules.ldap_filter import combine
from postern_sync.rules.ldap_mapping import LdapMapping

Answer = dict[str, Any]
SAMPLE: Final = 10
MAX_COUNTED: Final = 200_000
COUNT_PAGE: Final = 1000
SOON_DAYS: Final = 30
_NONE: Final = ("1.1",)  # RFC 4511 4.5.1.8: no attributes
_UNSEEN_BASE: Final = Fault("base_dn", "base_dn", "The account may not see the base DN.")
_UNSEEN_USERS: Final = Fault(
    "no_users",
    "permission",
    "No user is seen. The account may not be allowed to, or the base DN or filter fits nobody.",
)
_UNSEEN_MEMBERS: Final = Fault("no_members", "permission", "The account may not read the members of groups.")


async def test(ldap: LdapDocument, password: str, guard: NetGuard, mapping: LdapMapping, *, seconds: float) -> Answer:
    """Go into the directory step by step; the answer as the API shows it."""
    access = Access(ldap, password, guard, time.monotonic() + seconds)
    wire = Wire()
    return await in_thread(lambda: _Test(access, mapping, wire).run(), wire)


@dataclass(slots=True)
class _Test:
    """One test, and what it found so far."""

    access: Access
    mapping: LdapMapping
    wire: Wire
    steps: list[Answer] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    certificate: Answer | None = None
    found: dict[str, int] | None = None

    def run(self) -> Answer:
        """All steps, to the first that fails."""
        session = None
        try:
            session = self._enter()
            self._look_around(session)
            is_ok = True
        except LdapFault:
            is_ok = False
        finally:
            if session is not None:
                session.close()
        if is_ok:
            self._try_second()
        return {
            "ok": is_ok,
            "steps": self.steps,
            "found": self.found,
            "certificate": self.certificate,
            "warnings": self.warnings,
        }

    @contextmanager
    def _step(self, name: str, detail: str) -> Iterator[Callable[[str], None]]:
        """A step: `detail` says that it worked, unless the step says something else of itself."""
        began = time.monotonic()
        said = [detail]

        def record(step: str, text: str, *, ok: bool) -> None:
            spent = round((time.monotonic() - began) * 1000)
            self.steps.append({"step": step, "ok": ok, "detail": text, "milliseconds": spent})

        try:
            yield said.append
        except LdapFault as fault:
            record(
                fault.fault.step if fault.fault.step in {"connect", "permission"} else name,
                fault.fault.message,
                ok=False,
            )
            raise
        record(name, said[-1], ok=True)

    def _enter(self) -> Session:
        """Sign in at the first server, or at the second where the first cannot be reached."""
        hosts = self.access.hosts
        for number, host in enumerate(hosts):
            begun = len(self.steps)
            try:
                return self._enter_at(host)
            except LdapFault as fault:
                if number + 1 == len(hosts) or fault.fault.step == "bind":
                    raise
                self.warnings.append(f"The first server: {fault.fault.message}")
                del self.steps[begun:]
        raise LdapFault(network.UNKNOWN)

    def _enter_at(self, host: str) -> Session:
        session = Session(self.access, host)
        self.wire.holds(session)
        try:
            with self._step("name", "The name leads to an address."):
                addresses = network.resolve(host, self.access.port, self.access.guard)
            with self._step("connect", f"Connected to port {self.access.port}."):
                session.connect(addresses)
            self._secure(session, host, addresses)
            with self._step("bind", "Signed in." if self.access.ldap["user"] else "Let in without signing in."):
                session.bind()
        except BaseException:
            session.close()
            raise
        return session

    def _secure(self, session: Session, host: str, addresses: list[str]) -> None:
        ldap = self.access.ldap
        if ldap["security"] == "none":
            self.warnings.append("The connection is not encrypted: the password is sent in clear.")
            return
        detail = "Encrypted; the certificate is trusted."
        if not ldap["verify_certificate"]:
            detail = "Encrypted; the certificate was not checked."
            self.warnings.append("The certificate is not checked: somebody in between could read the password.")
        try:
            with self._step("tls", detail):
                session.secure()
        except LdapFault as fault:
            self.certificate = self._untrusted(host, addresses)
            if self.certificate is not None:
                self.certificate["reason"] = fault.fault.message
            raise
        self.certificate = session.certificate()
        self._warn_of_end()

    def _untrusted(self, host: str, addresses: list[str]) -> Answer | None:
        """The certificate that was not trusted, by a second connection on which nothing is said."""
        session = Session(self.access, host)
        try:
            session.connect(addresses)
            session.secure(tls.ANY)
            return session.certificate()
        except LdapFault:
            return None
        finally:
            session.close()

    def _warn_of_end(self) -> None:
        if self.certificate is None or "not_after" not in self.certificate:
            return
        left = datetime.fromisoformat(self.certificate["not_after"]) - self.mapping.now
        if left.days < SOON_DAYS:
            self.warnings.append(f"The certificate ends in {max(0, left.days)} days.")

    def _look_around(self, session: Session) -> None:
        """See whether what a run reads can be seen."""
        with self._step("base_dn", "The base DN is there."):
            seen: list[ber.Object] = []
            base = Question(self.access.ldap["base_dn"], ANYTHING, _NONE, "BASE")
            ended = session.search(base, seen.append, bounds=ONE)
            if ended.code != SUCCESS:
                raise LdapFault(of_search(ended.code))
            if not seen:
                raise LdapFault(_UNSEEN_BASE)
        with self._step("filter", "") as say:
            groups, users = self._sections()
            counts = {"users": self._count(session, users), "groups": self._count(session, groups)}
            self.found = counts
            say(f"{counts['users']} users and {counts['groups']} groups fit.")
        with self._step("permission", "Users and members of groups can be read."):
            if not counts["users"]:
                raise LdapFault(_UNSEEN_USERS)
            self._look_at_users(session, users)
            if counts["groups"]:
                self._look_at_members(session, groups)

    def _sections(self) -> tuple[Section, Section]:
        try:
            groups, users = sections_of(self.access, self.mapping, include_public_folders=False)
        except FilterError as error:
            raise LdapFault(Fault("filter", "filter", f"The filter cannot be read: {error}.")) from None
        return groups, users

    def _count(self, session: Session, section: Section) -> int:
        question = Question(self.access.ldap["base_dn"], section.filter_text, _NONE)
        page = min(COUNT_PAGE, self.access.ldap["page_size"])
        count, is_all = count_of(session, question, page, MAX_COUNTED)
        if not is_all:
            self.warnings.append(f"There are more {section.phase} than were counted.")
        return count

    def _look_at_users(self, session: Session, users: Section) -> None:
        question = Question(self.access.ldap["base_dn"], users.filter_text, users.attributes)
        try:
            entries = [users.to_entry(seen.dn, octets_of(seen)) for seen in first_of(session, question, SAMPLE)]
        except ber.Malformed:
            return
        if not any(entry.primary is not None for entry in entries):
            self.warnings.append(
                f"None of the first {len(entries)} users has an address: the account may not read it, or the attribute "
                "has another name."
            )
        if any(entry.id_kind == "dn" for entry in entries):
            self.warnings.append(
                "Users have no identity that can be read: a renamed user will be taken for another one."
            )

    def _look_at_members(self, session: Session, groups: Section) -> None:
        names = self.mapping.member_attributes
        has_members = "".join(f"({name}=*)" for name in names)
        wanted = combine(groups.filter_text, f"(|{has_members})")
        seen = first_of(session, Question(self.access.ldap["base_dn"], wanted, names), 1)
        if not seen:
            self.warnings.append("No group has members that the account may see.")
        elif not seen[0].attributes:
            raise LdapFault(_UNSEEN_MEMBERS)

    def _try_second(self) -> None:
        """Whether the second server would do, should the first be away."""
        hosts = self.access.hosts
        if len(hosts) < 2 or any(text.startswith("The first server") for text in self.warnings):
            return
        session = Session(self.access, hosts[1])
        try:
            self.wire.holds(session)
            session.connect(network.resolve(hosts[1], self.access.port, self.access.guard))
            session.secure()
        except LdapFault as fault:
            self.warnings.append(f"The second server: {fault.fault.message}")
        finally:
            session.close()
