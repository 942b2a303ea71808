"""Each case from public bug reports about SMTP, delivery, the broker and the database has a test with its number."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EDGE = range(46, 57)  # what clients do to an SMTP server
DELIVERY = range(59, 65)  # what next hops do to a relay
BROKER_AND_DATABASE = (67, 68, 69, 70, 72, 73)
_NAME = re.compile(r"def test_case_(\d+)_")


def test_every_case_of_mail_flow_broker_and_database_is_tried():
    files = [*ROOT.glob("services/*/tests/*.py"), *ROOT.glob("libs/*/tests/*.py"), *ROOT.glob("tests/*/*.py")]
    tried = {int(number) for file in files for number in _NAME.findall(file.read_text(encoding="utf-8"))}
    assert {*EDGE, *DELIVERY, *BROKER_AND_DATABASE} <= tried
