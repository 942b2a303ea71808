"""How long a synchronisation takes, what it writes and how much memory it needs, on slapd and with real processes.

Each size: a first run that adds everybody, a second one that finds nothing changed, and one with 1 % changed. Beside
them the same entries are read by plain paged searches of the LDAP library alone, in the same run: what reading costs
whoever reads.

    python -m tests.bench --part directory --scale 0.1
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ldap3
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from postern_local.apiclient import Api
from postern_local.unit import Unit
from tests.servers.farm import Farm
from tests.servers.slapd import BASE, PASSWORD, PEOPLE, READER, Slapd, group, person
from tests.servers.stack import Stack

SIZES: Final = (10_000, 100_000)
MEMBERS: Final = 50
POLL_SECONDS: Final = 0.25
TIMEOUT_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: how many entries were read in how many seconds, documents written, and the process's peak memory."""

    name: str
    entries: int
    seconds: float
    writes: int | None
    peak_mib: float | None
    outcome: str


def measure(console: Console, scale: float) -> list[Measured]:
    """All sizes."""
    farm = Farm()
    try:
        stack = Stack(farm, settings={"POSTERN_ALLOW_NETWORKS": "127.0.0.0/8"})
        try:
            stack.start_all()
            rows: list[Measured] = []
            for size in SIZES:
                rows += _Size(console, farm, stack, max(500, int(size * scale))).measure()
            return rows
        finally:
            stack.close()
    finally:
        farm.close()


def table(rows: list[Measured]) -> Table:
    """The rows as a table."""
    found = Table(title="Directory synchronisation (one run each)")
    for heading in ("run", "entries", "seconds", "entries/s", "documents written", "peak MiB", "outcome"):
        found.add_column(heading, justify="left" if heading in {"run", "outcome"} else "right")
    for row in rows:
        found.add_row(
            row.name,
            f"{row.entries:,}",
            f"{row.seconds:.1f}",
            f"{row.entries / row.seconds:,.0f}",
            "" if row.writes is None else f"{row.writes:,}",
            "" if row.peak_mib is None else f"{row.peak_mib:.0f}",
            row.outcome,
        )
    found.caption = "Peak memory: of the directory-sync process, restarted before each size. Groups: one for 50 users."
    return found


class _Size:
    """One directory of a size, and the customer that it belongs to."""

    def __init__(self, console: Console, farm: Farm, stack: Stack, users: int) -> None:
        self._console = console
        self._farm = farm
        self._stack = stack
        self._users = users
        self._entries = users + users // MEMBERS
        self._mongo: MongoClient[dict[str, Any]] = MongoClient(farm.mongo_uri())

    def measure(self) -> list[Measured]:
        """Load, then all runs."""
        self._stack.restart("sync")
        customer = self._stack.customer()
        domain = self._stack.domain(customer)
        with tempfile.TemporaryDirectory(prefix="postern-bench-slapd-") as directory:
            slapd = Slapd(Path(directory), name=f"slapd-{self._users}")
            began = time.monotonic()
            slapd.load(self._tree(domain))
            self._console.print(f"{self._users:,} users loaded in {time.monotonic() - began:.0f} s")
            with Unit(slapd, self._farm.processes).running():
                return list(self._runs(slapd, customer, domain))

    def _tree(self, domain: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in range(self._users):
            login = f"u{number:06d}"
            yield person(
                login,
                mail=f"{login}@{domain}",
                proxyAddresses=[f"SMTP:{login}@{domain}", f"smtp:a{number}@{domain}"],
                department="Sales",
                company="Example Ltd",
                telephoneNumber="+44 20 7946 0000",
            )
        for number in range(self._users // MEMBERS):
            first = number * MEMBERS
            members = [f"u{one:06d}" for one in range(first, first + MEMBERS)]
            yield group(f"g{number:06d}", members, mail=f"g{number:06d}@{domain}")

    def _runs(self, slapd: Slapd, customer: str, domain: str) -> Iterator[Measured]:
        name = f"{self._users:,} users"
        yield self._told(Measured(f"{name}: read by ldap3 alone", self._entries, _plain_read(slapd), None, None, ""))
        api = self._stack.api
        settings = {
            **slapd.settings(host="127.0.0.1"),
            "password": PASSWORD,
            "attributes": {"proxy_addresses": "proxyAddresses"},
        }
        api.call("PUT", f"/v1/customers/{customer}/directory", {"provider": "ldap", "ldap": settings})
        yield self._run(f"{name}: first run", api, customer)
        yield self._run(f"{name}: nothing changed", api, customer)
        for number in range(0, self._users, 100):
            slapd.change(f"uid=u{number:06d},{PEOPLE}", department=["Service"])
        yield self._run(f"{name}: 1 % changed", api, customer)

    def _run(self, name: str, api: Api, customer: str) -> Measured:
        before = self._written()
        began = time.monotonic()
        path = f"/v1/customers/{customer}/directory"
        run = api.post(f"{path}/sync")
        while run["phase"] != "ended":
            if time.monotonic() - began > TIMEOUT_SECONDS:
                raise RuntimeError(f"{name} did not end: {run}")
            time.sleep(POLL_SECONDS)
            run = api.get(f"{path}/runs/{run['id']}")
        seconds = time.monotonic() - began
        counts = run["counts"]
        outcome = f"{run['state']}: +{counts.get('added', 0):,} ~{counts.get('updated', 0):,}"
        if run["reason"]:
            outcome += f" ({run['reason']})"
        written = self._written() - before
        return self._told(Measured(name, self._entries, seconds, written, self._peak(), outcome))

    def _told(self, row: Measured) -> Measured:
        self._console.print(f"{row.name}: {row.seconds:.1f} s {row.outcome}")
        return row

    def _written(self) -> int:
        """Documents that the database server inserted, changed or removed so far, whoever asked for it."""
        found = self._mongo.admin.command("serverStatus")["metrics"]["document"]
        return sum(int(found[kind]) for kind in ("inserted", "updated", "deleted"))

    def _peak(self) -> float:
        child = self._stack.units["sync"].child
        assert child is not None
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _plain_read(slapd: Slapd) -> float:
    """Seconds for the library's own paged search over the same attributes."""
    began = time.monotonic()
    server = ldap3.Server("127.0.0.1", port=slapd.port, get_info=ldap3.NONE)
    wanted = ["entryUUID", "mail", "proxyAddresses", "givenName", "sn", "department", "company", "member"]
    with ldap3.Connection(server, READER, PASSWORD, auto_bind=True, check_names=False) as connection:
        found = connection.extend.standard.paged_search(
            BASE, "(objectClass=*)", attributes=wanted, paged_size=500, generator=True
        )
        for _entry in found:
            pass
    return time.monotonic() - began
