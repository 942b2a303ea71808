"""A web server for MTA-STS policies, one for all domains: what it answers stands in `answers` by host."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any, Self

HEAD = "HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n"


@dataclass
class Answer:
    """What a host answers; `trusted_name` is the name that its certificate has in place of its own."""

    body: str
    status: int = 200
    kind: str = "text/plain"
    more: str = ""
    trusted_name: str | None = None
    is_silent: bool = False


def policy(*mx: str, mode: str = "enforce", max_age: int = 604800) -> Answer:
    """A policy as it should be served."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {one}" for one in mx), f"max_age: {max_age}"]
    return Answer("".join(f"{line}\r\n" for line in lines))


@dataclass
class PolicySite:
    """Start it, and look at `asked` for the hosts that were asked for their policy."""

    authority: Any
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> Self:
        """Listen on loopback."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("nobody.test").configure_cert(context)
        context.sni_callback = self._choose
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        answer = self.answers.get(name or "")
        if answer is not None:
            own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.authority.issue_cert(answer.trusted_name or name or "").configure_cert(own)
            connection.context = own

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            [host] = [line[5:].strip() for line in head.split("\r\n") if line.lower().startswith("host:")]
            self.asked.append(host)
            answer = self.answers.get(host) if head.startswith("GET /.well-known/mta-sts.txt ") else None
            answer = answer or Answer("none", 404)
            if answer.is_silent:
                await reader.read()
            head = HEAD.format(status=answer.status, kind=answer.kind, more=answer.more)
            writer.write((head + answer.body).encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
