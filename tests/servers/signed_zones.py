"""Zones signed for DNSSEC, as a test writes them, and the keys that a validating resolver trusts for them."""

import subprocess
from pathlib import Path


def signed(zone: str, text: str, directory: Path) -> tuple[str, str]:
    """A zone's text with its signatures, and its key in the form of BIND's `static-key`; `text` has a SOA."""
    directory.mkdir(parents=True, exist_ok=True)
    _run(directory, "dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone)
    _run(directory, "dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", zone)
    (directory / zone).write_text(f"$ORIGIN {zone}.\n{text}\n")
    _run(directory, "dnssec-signzone", "-q", "-S", "-K", ".", "-o", zone, "-f", f"{zone}.signed", zone)
    keys = [line.split() for path in directory.glob(f"K{zone}.*.key") for line in path.read_text().splitlines()]
    [trusted] = [fields for fields in keys if fields[2:4] == ["DNSKEY", "257"]]
    flags, protocol, algorithm = trusted[3:6]
    return (directory / f"{zone}.signed").read_text(), f'{flags} {protocol} {algorithm} "{"".join(trusted[6:])}"'


def _run(directory: Path, *words: str) -> None:
    subprocess.run(words, cwd=directory, check=True, capture_output=True, timeout=60)
