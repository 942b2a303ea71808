"""What a source says of its reading when it has ended."""

from dataclasses import dataclass

from postern_common.directory_documents import DeltaDocument


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What reading came to (BEHAVIOURS 3.2). `problems` are the reasons why something may be missing, as stable words
    with detail (`size_limit: …`, `connection_lost: …`, `members_incomplete: <group>`); none means that every page
    ended well. `invocation_id` and `usn` name the domain controller and how far it is, for Active Directory. `place`
    names what the reader decided beside the settings, such as an agent's own host. `delta` is where reading goes on,
    to be stored with what it stands for.
    """

    users: int
    groups: int
    base_readable: bool = True
    problems: tuple[str, ...] = ()
    referrals: int = 0
    attribute_errors: int = 0
    invocation_id: str | None = None
    usn: int | None = None
    place: str = ""
    delta: DeltaDocument | None = None
