"""The guided setup on a demo customer, over the same HTTP API and SMTP that everybody uses.

Each step says what was done and where to look; the one that fails is named.
"""

import email.message
import email.utils
import shutil
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from postern_local.apiclient import Api
from postern_local.console import Progress
from postern_local.faults import StackFault, StepFailed
from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink

CUSTOMER = "Demo Ltd"
SENDER = "friend@example.org"
T = TypeVar("T")


@dataclass
class Guide:
    """The story of one customer, from sign-in to the delivered message."""

    api_url: str
    login: str
    password: str
    edge: tuple[str, int]
    nameserver: Nameserver
    next_hop: SmtpSink
    progress: Progress
    domain: str = "demo.test"
    wait_seconds: float = 60.0
    token: str = field(default="", repr=False)
    customer_id: str = ""

    def play(self) -> None:
        """All steps in order; raises StepFailed at the first that does not come out."""
        self.progress.title("Guided setup")
        with self._step("sign in as the platform administrator"):
            api = Api(self.api_url, patience=self.wait_seconds).signed_in(self.login, self.password)
        with api:
            self._customer(api)
            self._domain(api)
            self._site(api)
            self._user(api)
            self._message(api)

    def _customer(self, api: Api) -> None:
        with self._step(f"create the customer {CUSTOMER}"):
            self.customer_id = api.post("/v1/customers", {"name": CUSTOMER})["id"]
        self.progress.note(f"customer_id {self.customer_id}")

    def _domain(self, api: Api) -> None:
        path = f"{self._base}/domains"
        with self._step(f"add the domain {self.domain}"):
            added = api.post(path, {"name": self.domain})
        record = added["verification"]["record"]
        self.progress.note("to be published by the domain's owner:", record["zone_line"])
        with self._step("publish the TXT record by a dynamic update (RFC 2136)"):
            self.nameserver.update(self.domain, "TXT", [record["value"]])
        with self._step("verify the domain"):
            verified = self._until(
                lambda: api.post(f"{path}/{self.domain}/verify"),
                lambda domain: domain["state"] == "verified",
                lambda domain: f"it is {domain['state']}: {_explanation(domain)}",
            )
        self.progress.note(_explanation(verified))

    def _site(self, api: Api) -> None:
        server = {"host": "127.0.0.1", "port": self.next_hop.port, "priority": 10}
        with self._step(f"set the mail server {self.next_hop.address} as the default site"):
            site = api.post(
                f"{self._base}/sites", {"description": "Head office", "is_default": True, "servers": [server]}
            )
        with self._step("test the connection to the mail server"):
            result = api.post(f"{self._base}/sites/{site['id']}/test")
            if not result["ok"]:
                raise StackFault("; ".join(_site_lines(result)))
        self.progress.note(*_site_lines(result))

    def _user(self, api: Api) -> None:
        with self._step(f"add the user {self._recipient}"):
            user = {"email": self._recipient, "first_name": "Ada", "last_name": "Lovelace"}
            api.post(f"{self._base}/users", user)

    def _message(self, api: Api) -> None:
        message = self._written()
        known = set(self.next_hop.messages())
        host, port = self.edge
        with self._step(f"send a message to {self._recipient} through {host}:{port} by {_sender_name()}"):
            self._until(
                lambda: _send(host, port, self._recipient, message),
                lambda reply: reply is None,
                lambda reply: f"the edge answered: {reply}",
            )
        with self._step("follow it in the trace until it is delivered"):
            trace = self._until(
                lambda: self._trace(api, str(message["Message-ID"])),
                lambda found: found is not None and _states(found) == {"delivered"},
                lambda found: "it is not in the trace" if found is None else f"recipients are {_states(found)}",
            )
        with self._step("find it at the mail server"):
            path = self._until(
                lambda: self._taken(known, str(message["Message-ID"])), bool, lambda _: "no file holds it"
            )
        self.progress.note(f"file {path}")
        self._show(trace or {})

    def _trace(self, api: Api, message_id: str) -> dict[str, Any] | None:
        found = api.get(f"{self._base}/messages?recipient={self._recipient}")["items"]
        ids = [item["id"] for item in found if str(item["message_id"]).strip("<>") == message_id.strip("<>")]
        trace: dict[str, Any] | None = api.get(f"{self._base}/messages/{ids[0]}") if ids else None
        return trace

    def _taken(self, known: set[Path], message_id: str) -> Path | None:
        fresh = [path for path in self.next_hop.messages() if path not in known]
        return next((path for path in fresh if message_id.encode() in path.read_bytes()), None)

    def _show(self, trace: dict[str, Any]) -> None:
        self.progress.title(f"Trace of message {trace.get('queue_id')}")
        for recipient in trace.get("recipients", []):
            hop = recipient.get("next_hop") or "-"
            self.progress.note(f"{recipient['address']}: {recipient['state']} by {hop}: {recipient.get('reply')}")
        rows = [
            [str(step.get(key) or "") for key in ("at", "actor", "what", "detail")] for step in trace.get("steps", [])
        ]
        self.progress.table(("at", "actor", "what", "detail"), rows)

    def _written(self) -> email.message.EmailMessage:
        message = email.message.EmailMessage()
        message["From"], message["To"], message["Subject"] = SENDER, self._recipient, "Welcome to Postern"
        message["Date"] = email.utils.localtime()
        message["Message-ID"] = email.utils.make_msgid(domain="example.org")
        message.set_content("This message went through five services, RabbitMQ and MongoDB.\n")
        return message

    @property
    def _base(self) -> str:
        return f"/v1/customers/{self.customer_id}"

    @property
    def _recipient(self) -> str:
        return f"ada@{self.domain}"

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        try:
            with self.progress.step(name):
                yield
        except StepFailed:
            raise
        except (StackFault, OSError, smtplib.SMTPException, KeyError, TypeError) as error:
            raise StepFailed(name, str(error) or type(error).__name__) from error

    def _until(self, ask: Callable[[], T], good: Callable[[T], bool], why: Callable[[T], str]) -> T:
        """Ask again and again, since services learn of changes by events; raises with the last answer's reason."""
        deadline = time.monotonic() + self.wait_seconds
        while not good(answer := ask()):
            if time.monotonic() > deadline:
                raise StackFault(f"after {self.wait_seconds:.0f} s {why(answer)}")
            time.sleep(0.2)
        return answer


def _send(host: str, port: int, recipient: str, message: email.message.EmailMessage) -> str | None:
    """Send by swaks where it is installed, else by smtplib; None, or the refusal."""
    if shutil.which("swaks") is None:
        try:
            with smtplib.SMTP(host, port, timeout=30) as client:
                client.sendmail(SENDER, [recipient], message.as_bytes())
        except smtplib.SMTPException as error:
            return str(error)
        return None
    command = ["swaks", "--server", host, "--port", str(port), "--from", SENDER, "--to", recipient, "--data", "-"]
    done = subprocess.run(command, input=message.as_bytes(), capture_output=True, timeout=60, check=False)
    if done.returncode == 0:
        return None
    replies = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith("<**")]
    return replies[0].removeprefix("<**").strip() if replies else f"swaks ended with status {done.returncode}"


def _sender_name() -> str:
    return "swaks" if shutil.which("swaks") else "smtplib"


def _states(message: dict[str, Any]) -> set[str]:
    return {recipient["state"] for recipient in message["recipients"]}


def _explanation(domain: dict[str, Any]) -> str:
    return str(
        (domain["verification"].get("last_check") or {}).get("explanation") or domain.get("detail") or "no details"
    )


def _site_lines(result: dict[str, Any]) -> list[str]:
    """One line for each server of a site's test, and one for each recipient that was tried."""
    lines = []
    for server in result["servers"]:
        failed = [step["detail"] for step in server["steps"] if not step["ok"]]
        lines.append(f"{server['host']}:{server['port']} {server['result']}: {' '.join(failed) or server['banner']}")
        lines += [f"RCPT {tried['address']}: {tried['reply']}" for tried in server["recipients"]]
    return lines
