"""`make docs` writes what the code says, and `--check` tells a stale page."""

import pytest

from tools.docs import stale
from tools.pages import Metric, metrics

SOURCE = """
SENT = Counter("postern_edge_sent_total", "Messages sent.", ["outcome"])
SIZE = prometheus_client.Histogram("postern_edge_size_bytes", "Size" " of messages.", labelnames=("kind", "class"))
ELSE = Counter(words)
OTHER = Counter("python_gc_total", "Not ours.")
"""


def test_metrics_are_found_where_they_are_made(tmp_path):
    package = tmp_path / "services/smtp-edge/src/postern_edge"
    package.mkdir(parents=True)
    (package / "metrics.py").write_text(SOURCE, encoding="utf-8")
    assert metrics(tmp_path) == [
        Metric("postern_edge_sent_total", "counter", "Messages sent.", "outcome"),
        Metric("postern_edge_size_bytes", "histogram", "Size of messages.", "kind, class"),
    ]


@pytest.mark.parametrize(
    ("committed", "expected"), [("new\n", {}), ("old\n", {"a.md": "new\n"}), (None, {"a.md": "new\n"})]
)
def test_a_page_is_stale_when_its_text_differs_or_is_missing(tmp_path, committed, expected):
    if committed is not None:
        (tmp_path / "a.md").write_text(committed, encoding="utf-8")
    assert stale(tmp_path, {"a.md": lambda: "new\n"}) == expected
