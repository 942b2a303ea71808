"""What goes wrong with a directory on a real slapd: each is told as what it is, and nothing unread counts as gone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postern_common.netguard import NetGuard
from postern_local.ports import free_ports
from postern_sync.adapters.ldap.factory import ldap_source
from postern_sync.adapters.ldap.session import Access
from postern_sync.source import Cancelled, SourceFailed
from tests.servers.farm import Farm
from tests.servers.slapd import LIMITED, PASSWORD, Certificates, Everything, Slapd, person, running, source_of


@pytest.fixture(scope="module")
def slapd(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    part = Slapd(tmp_path_factory.mktemp("slapd"), name="slapd-faults")
    part.load([person(f"user{number}") for number in range(1200)])
    with running(part, farm.processes):
        yield part


@pytest.mark.spec("S16")
async def test_a_limit_before_the_first_entry_is_a_failure_and_no_empty_directory(slapd: Slapd):
    with pytest.raises(SourceFailed) as failed:
        await source_of(slapd.settings(user=LIMITED, page_size=1000)).read(Everything())
    assert failed.value.step == "permission"
    assert "smaller page size" in failed.value.message


@pytest.mark.spec("S16")
@pytest.mark.chaos
async def test_a_server_that_dies_between_pages_leaves_a_problem_and_what_was_read(farm: Farm, tmp_path: Path):
    part = Slapd(tmp_path, name="slapd-dying")
    part.load([person(f"user{number}") for number in range(600)])
    with running(part, farm.processes) as unit:
        found = Everything()

        def after_page() -> None:
            if found.told[-1] == ("users", 200):
                unit.kill()

        found.on_page = after_page
        report = await source_of(part.settings(page_size=100)).read(found)
    assert report.users == 200
    assert len(found.entries) == 200
    assert [problem.partition(":")[0] for problem in report.problems] == ["connection_lost"]


@pytest.mark.spec("L1")
@pytest.mark.parametrize(
    ("certificates", "words"),
    [
        (Certificates(expires=datetime.now(UTC) - timedelta(days=1)), "has expired"),
        (Certificates(names=("dc1.other.test",)), "another name"),
    ],
    ids=["expired", "wrong name"],
)
@pytest.mark.parametrize("security", ["ldaps", "starttls"])
async def test_a_bad_certificate_is_told_as_what_it_is(
    farm: Farm, tmp_path: Path, certificates: Certificates, words: str, security: str
):
    part = Slapd(tmp_path, certificates, name="slapd-certificate")
    with running(part, farm.processes), pytest.raises(SourceFailed) as failed:
        await source_of(part.settings(security=security)).read(Everything())
    assert failed.value.step == "tls"
    assert words in failed.value.message


async def test_a_port_without_tls_and_a_port_with_nothing(slapd: Slapd):
    with pytest.raises(SourceFailed) as failed:
        await source_of(slapd.settings(port=free_ports(1)[0])).read(Everything())
    assert failed.value.step == "connect"
    with pytest.raises(SourceFailed) as failed:
        await source_of(slapd.settings(port=slapd.port)).read(Everything())
    assert failed.value.step == "tls"


@pytest.mark.spec("R12")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_host_inside_is_not_connected_to(slapd: Slapd, host: str):
    access = Access(slapd.settings(host=host), PASSWORD, NetGuard())
    with pytest.raises(SourceFailed) as failed:
        await ldap_source(access, datetime.now(UTC)).read(Everything())
    assert failed.value.step == "connect"
    assert "127." not in failed.value.message


async def test_a_read_that_is_called_off_ends_at_the_next_page(slapd: Slapd):
    found = Everything()

    def stop() -> None:
        if found.told[-1] == ("users", 200):
            raise Cancelled

    found.on_page = stop
    with pytest.raises(Cancelled):
        await source_of(slapd.settings(page_size=100)).read(found)
    assert len(found.entries) == 200
