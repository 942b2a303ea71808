"""What no tracked file may hold: paths of somebody's machine, hosts of package registries, work left undone."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from tools.checks.source import Finding, Source

_MACHINE_PATH = re.compile(r"(?:^|[^A-Za-z0-9_.])/(work|farm)/")
_LEFT_TO_DO = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b")
_PLACE = re.compile(r"https?://|git\+|file:|--(?:extra-)?index-url|--find-links")


def _lines(source: Source) -> Iterator[tuple[int, str]]:
    return enumerate(source.text.splitlines(), start=1)


def text_names_no_machine(source: Source) -> Iterator[Finding]:
    """A path of the machine that a change was made on means nothing elsewhere."""
    for number, line in _lines(source):
        match = _MACHINE_PATH.search(line)
        if match:
            yield Finding(source.path, number, f"a path of one machine: /{match[1]}/...")


@cache
def registry_hosts() -> frozenset[str]:
    """Hosts of the package indexes that pip is set up with here; they are this machine's affair."""
    hosts = set()
    for setting in ("global.index-url", "global.extra-index-url"):
        answer = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", setting],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        hosts |= {urlsplit(word).hostname for word in answer.stdout.split()}
    return frozenset(host for host in hosts if host and host not in {"localhost", "127.0.0.1"})


def registry_hosts_stay_out(source: Source) -> Iterator[Finding]:
    """A package index is the choice of whoever installs."""
    return names_hosts(source, registry_hosts())


def names_hosts(source: Source, hosts: frozenset[str]) -> Iterator[Finding]:
    """Lines that hold one of `hosts`."""
    for number, line in _lines(source):
        for host in hosts:
            if host in line:
                yield Finding(source.path, number, "the host of a package registry")


def nothing_left_to_do(source: Source) -> Iterator[Finding]:
    """Work that is left has an issue; a note in the source is read by nobody."""
    for number, line in _lines(source):
        match = _LEFT_TO_DO.search(line)
        if match:
            yield Finding(source.path, number, f"{match[0]}: file an issue, or do it")


def lock_files_name_no_place(source: Source) -> Iterator[Finding]:
    """A lock file pins names, versions and hashes; where to get them from is the installing machine's setting."""
    path = PurePosixPath(source.path)
    is_lock = path.suffix == ".txt" and (path.parent.name == "requirements" or path.name.startswith("constraints"))
    if not is_lock and path.name not in {"package-lock.json", "uv.lock"}:
        return
    for number, line in _lines(source):
        match = _PLACE.search(line.partition("#")[0])
        if match:
            yield Finding(source.path, number, f"{match[0]}: a lock file names no place")
