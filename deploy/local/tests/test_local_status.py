"""What `make status` and the steps say, and `publish` without a stack."""

import contextlib
import io

import pytest
from rich.console import Console

from postern_local.console import Progress
from postern_local.faults import StackFault
from postern_local.publish import publish
from postern_local.status import headline


@pytest.mark.parametrize(
    ("phase", "unready", "words"),
    [
        ("ready", [], "ready"),
        ("ready", ["rabbitmq", "edge"], "up, but not ready: rabbitmq, edge"),
        ("starting", ["api"], "starting, but not ready: api"),
        ("starting", [], "starting"),
    ],
)
def test_theheadline_agrees_with_the_table(phase: str, unready: list[str], words: str):
    assert headline(phase, unready) == words


@pytest.mark.parametrize(("error", "word"), [(KeyboardInterrupt, "interrupted"), (StackFault, "failed")])
def test_a_step_that_a_signal_ends_was_interrupted_and_did_not_fail(error: type[BaseException], word: str):
    output = io.StringIO()
    with contextlib.suppress(error), Progress(Console(file=output)).step("api"):
        raise error
    assert output.getvalue().split() == [word, "api"]


@pytest.mark.parametrize("tsig", [None, "name:algorithm"])
def test_publish_without_the_env_file_says_what_to_read(tsig: str | None):
    given = {"POSTERN_DNS_UPDATE": "127.0.0.1:1", "POSTERN_DNS_ZONES": "scratch.test"}
    with pytest.raises(StackFault, match="env file"):
        publish("a.scratch.test", "TXT", ["x"], given | ({"POSTERN_DNS_TSIG": tsig} if tsig else {}))


def test_publish_serves_the_stacks_zones_alone():
    given = {"POSTERN_DNS_UPDATE": "127.0.0.1:1", "POSTERN_DNS_ZONES": "scratch.test", "POSTERN_DNS_TSIG": "n:a:aa=="}
    with pytest.raises(StackFault, match=r"none of the zones scratch\.test"):
        publish("example.org", "TXT", ["x"], given)
