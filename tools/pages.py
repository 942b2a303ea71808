"""The reference pages, each made from the code: settings, events, metrics, SMTP replies, AsyncAPI and OpenAPI.

Events, settings and replies are read from the objects themselves; metrics from the places in the source where they are
made, so that nothing has to run.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postern_common.asyncapi import build_asyncapi, example
from postern_common.events import CATALOGUE
from postern_common.settings import CommonSettings, environment_name

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("api", "edge", "dns", "sync", "deletion")
SOURCES = ("libs/*/src", "services/*/src")

_NOTICE = "Made by `make docs` from the code; change the code, not this page."

_SETTINGS_HEAD = f"""# Settings

{_NOTICE}

Services read environment variables only. An unknown `POSTERN_` variable stops the start with status 78.
`python -m postern_<service> settings` prints what is in force, secrets masked.

## All services
"""

_EVENTS_HEAD = f"""# Events

{_NOTICE}

CloudEvents 1.0 JSON on the topic exchange `postern.events`; the routing key is the event's name. Delivery is at least
once: deduplicate by `id`. The AsyncAPI document is [asyncapi.json](../asyncapi.json).
"""

_METRICS_HEAD = f"""# Metrics

{_NOTICE}

Each service serves them at `/metrics` of its ops port (9100). No label names a tenant, a domain or an address.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |"""

_REPLIES_HEAD = f"""# SMTP replies

{_NOTICE}

Each reply has a number of its own, so that one line in a log leads to one place in the code.

A reply with 4 at its beginning asks the sender's server to come again, one with 5 refuses for good; those with 421, 521
and 554 5.5.0 end the connection. Nothing else is ever said on the port.

| number | reply | meaning |
| --- | --- | --- |"""


def settings_of(service: str) -> type[CommonSettings]:
    """The settings class of one service."""
    module = importlib.import_module(f"postern_{service}.settings")
    own = (value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__)
    return next(kind for kind in own if issubclass(kind, CommonSettings))


def all_setting_names() -> frozenset[str]:
    """The environment variable of every setting of every service."""
    kinds: list[type[CommonSettings]] = [CommonSettings, *(settings_of(service) for service in SERVICES)]
    return frozenset(environment_name(kind, field) for kind in kinds for field in kind.model_fields)


def settings_page() -> str:
    """Every setting with its variable, default and meaning."""
    common = list(CommonSettings.model_fields)
    lines = [_SETTINGS_HEAD, *_settings_table(CommonSettings, common)]
    for service in SERVICES:
        kind = settings_of(service)
        own = [field for field in kind.model_fields if field not in common]
        lines += ["", f"## postern_{service}", "", *(_settings_table(kind, own) if own else ["None of its own."])]
        for field in common:
            if _default(kind, field) != _default(CommonSettings, field):
                lines += ["", f"Its `{environment_name(kind, field)}` is {_default(kind, field)} by default."]
    return _page(lines)


def events_page() -> str:
    """Every event with its fields, its consumers inside of Postern, and an example."""
    lines = [_EVENTS_HEAD]
    for name in sorted(CATALOGUE):
        kind = CATALOGUE[name]
        consumers = ", ".join(kind.consumers) or "none inside of Postern"
        lines += [f"## {name}", "", _cell(kind.__doc__), "", f"Type `{kind.type()}`; consumers: {consumers}.", ""]
        lines += ["| field | meaning |", "| --- | --- |"]
        lines += [
            f"| `{info.alias or field}` | {_cell(info.description)} |" for field, info in kind.model_fields.items()
        ]
        lines += ["", "```json", json.dumps(example(kind)["data"], indent=2), "```", ""]
    return _page(lines)


def metrics_page() -> str:
    """Every metric with its kind, meaning and labels."""
    rows = [f"| `{one.name}` | {one.kind} | {one.labels} | {_cell(one.description)} |" for one in metrics(ROOT)]
    return _page([_METRICS_HEAD, *rows])


def replies_page() -> str:
    """Every SMTP reply with its number and its meaning; those to EHLO and HELO and the greeting have no number."""
    module = importlib.import_module("postern_edge.replies")
    taken = module.queued("<queue id>")
    replies = module.CATALOGUE | {taken.id: taken}
    meanings = importlib.import_module("postern_edge.reply_meanings").MEANINGS
    rows = [f"| {name} | `{replies[name]}` | {_cell(meanings[name])} |" for name in sorted(replies)]
    hostname = "mx.example.net"
    offered = module.ehlo_ok(hostname, 52_428_800, starttls=True).decode().splitlines()
    greetings = {
        module.banner(hostname).decode().strip(): "The greeting: this edge's name, and nothing of its software.",
        module.helo_ok(hostname).decode().strip(): "Answer to HELO.",
        "` `".join(offered): "Answer to EHLO: the extensions; without STARTTLS where TLS is active or there is no "
        "certificate.",
    }
    return _page([_REPLIES_HEAD, *(f"| | `{line}` | {meaning} |" for line, meaning in greetings.items()), *rows])


def asyncapi_document() -> str:
    """The AsyncAPI document."""
    return json.dumps(build_asyncapi(), indent=1, ensure_ascii=False) + "\n"


def openapi_document() -> str:
    """The OpenAPI document, as the API itself prints it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
    command = [sys.executable, "-m", "postern_api", "openapi"]
    printed = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120, env=environment
    )
    return json.dumps(json.loads(printed.stdout), indent=1, ensure_ascii=False) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/events.md": events_page,
    "docs/reference/settings.md": settings_page,
    "docs/reference/replies.md": replies_page,
    "docs/reference/metrics.md": metrics_page,
    "docs/asyncapi.json": asyncapi_document,
    "docs/openapi.json": openapi_document,
}


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """One metric as it is made in the code."""

    name: str
    kind: str
    description: str
    labels: str


def metrics(root: Path) -> list[Metric]:
    """The metrics made anywhere in the product's code."""
    files = (file for pattern in SOURCES for file in root.glob(f"{pattern}/**/*.py"))
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    return sorted({metric for tree in trees for node in ast.walk(tree) if (metric := _metric(node))})


def _metric(node: ast.AST) -> Metric | None:
    if not isinstance(node, ast.Call) or len(node.args) < 2 or not isinstance(node.args[0], ast.Constant):
        return None
    kind, name = ast.unparse(node.func).split(".")[-1], str(node.args[0].value)
    if kind not in {"Counter", "Gauge", "Histogram", "Info", "Summary"} or not name.startswith("postern_"):
        return None
    named = (keyword.value for keyword in node.keywords if keyword.arg == "labelnames")
    labels = node.args[2] if len(node.args) > 2 else next(named, ast.Tuple([]))
    return Metric(name, kind.lower(), str(ast.literal_eval(node.args[1])), ", ".join(ast.literal_eval(labels)))


def _settings_table(kind: type[CommonSettings], fields: list[str]) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "| --- | --- | --- |"
    for field in fields:
        description = _cell(kind.model_fields[field].description)
        yield f"| `{environment_name(kind, field)}` | {_default(kind, field)} | {description} |"


def _default(kind: type[CommonSettings], field: str) -> str:
    info = kind.model_fields[field]
    if info.is_required():
        return "required"
    value: Any = info.get_default(call_default_factory=True, validated_data={})
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = ",".join(str(item) for item in value)
    return "" if value is None or value == "" else f"`{value}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
