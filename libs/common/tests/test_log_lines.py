"""Log lines are JSON objects on standard output, whoever writes them."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from postern_common.telemetry import bind, configure_logging
log = structlog.get_logger("postern.part")
configure_logging("smtp-edge", "info")
log.debug("never_shown")
with bind(message_id="msg_1"):
    log.info("taken", password="secret", ids=("a",))
logging.getLogger("driver.part").warning("lost %s", "it")
try:
    1 / 0
except ZeroDivisionError as error:
    log.error("failed", exc_info=error)
"""


def test_lines_of_ours_and_of_libraries_are_alike():
    written = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    ours, theirs, failed = (json.loads(line) for line in written.splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "taken",
        "level": "info",
        "logger": "postern.part",
        "service": "smtp-edge",
        "message_id": "msg_1",
        "password": "***",
        "ids": ["a"],
    }
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("lost it", "warning", "driver.part")
    assert theirs["service"] == "smtp-edge"
    assert "ZeroDivisionError" in failed["exception"]
