"""The beginning of a delivery to one server, step by step, without ever sending DATA (SPEC R2).

The name is resolved, each address judged (SPEC R12), and the socket connected to the very address that was judged.
TLS is tried with a trusted certificate first; where only the certificate is at fault, once more without looking at
it, as opportunistic delivery does (RFC 7435), and the report says what is wrong with it.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final, Self

import aiosmtplib
from aiosmtplib.errors import SMTPConnectResponseError, SMTPException, SMTPResponseException, SMTPTimeoutError

from postern_api.adapters.resolver import HostResolver, NoAddress
from postern_api.sites.schemas import Result, ServerTest, TestRecipient, TestStep, TestTls
from postern_common.netguard import NetGuard

CONNECT_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 15.0
WHOLE_SECONDS: Final = 60.0
MAX_TEXT: Final = 300


class _Failed(Exception):
    """A step did not work; the dialogue ends with `result`."""

    def __init__(self, result: Result, detail: str) -> None:
        super().__init__(detail)
        self.result: Result = result
        self.detail = detail


class _BadCertificate(Exception):
    """TLS would work, were it not for the certificate."""


class SmtpProber:
    """Speaks SMTP with servers of sites. `hello` is the name that it greets with."""

    def __init__(self, resolver: HostResolver, guard: NetGuard, hello: str) -> None:
        self._resolver = resolver
        self._guard = guard
        self._hello = hello

    async def probe(self, server: dict[str, Any], recipients: Sequence[str], own_mx: Sequence[str]) -> ServerTest:
        """Go through the steps; never raises for what the server does."""
        dialogue = _Dialogue(server, recipients, self._hello)
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                address = await self._address(dialogue, own_mx)
                try:
                    await dialogue.run(address, check_certificate=True)
                except _BadCertificate as bad:
                    if server["tls"] == "required":
                        raise _Failed("tls_error", str(bad)) from None
                    await dialogue.again(address, str(bad))
        except _Failed as failed:
            dialogue.result = failed.result
        except TimeoutError:
            dialogue.result = "timeout"
        finally:
            dialogue.close()
        return dialogue.report()

    async def _address(self, dialogue: "_Dialogue", own_mx: Sequence[str]) -> str:
        with dialogue.step("resolve") as step:
            try:
                found = await self._resolver.addresses(dialogue.server["host"])
            except NoAddress as error:
                raise step.failed("dns_error", str(error)) from None
            permitted = [address for address in found if self._guard.permits(address)]
            if not permitted:
                raise step.failed("refused", "The host leads to a network that may not be reached from here.")
            if await self._own_addresses(own_mx) & set(permitted):
                raise step.failed("refused", "The host is the gateway itself.")
            step.detail = ", ".join(permitted)
            dialogue.address = permitted[0]
            return permitted[0]

    async def _own_addresses(self, own_mx: Sequence[str]) -> set[str]:
        own: set[str] = set()
        for host in own_mx:
            try:
                own |= set(await self._resolver.addresses(host))
            except NoAddress:
                continue
        return own


class _Step:
    """Times one step and keeps what came of it."""

    def __init__(self, steps: list[TestStep], name: Any) -> None:
        self._steps = steps
        self._name = name
        self.detail = ""

    def failed(self, result: Result, detail: str) -> _Failed:
        """What to raise when the step did not work."""
        return _Failed(result, detail)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        detail = error.detail if isinstance(error, _Failed) else "No answer in time." if error else self.detail
        if isinstance(error, _BadCertificate):
            detail = str(error)
        milliseconds = round((time.monotonic() - self._started) * 1000)
        self._steps.append(
            TestStep(step=self._name, ok=error is None, detail=detail[:MAX_TEXT], milliseconds=milliseconds)
        )


class _Dialogue:
    """One server's test while it runs."""

    def __init__(self, server: dict[str, Any], recipients: Sequence[str], hello: str) -> None:
        self.server = server
        self.address: str | None = None
        self.result: Result = "ok"
        self._recipients = recipients
        self._hello = hello
        self._steps: list[TestStep] = []
        self._answers: list[TestRecipient] = []
        self._banner: str | None = None
        self._tls: TestTls | None = None
        self._client: aiosmtplib.SMTP | None = None

    def step(self, name: str) -> _Step:
        """Begin a step."""
        return _Step(self._steps, name)

    async def again(self, address: str, problem: str) -> None:
        """Once more, without looking at the certificate."""
        self.close()
        self._steps = self._steps[:1]
        await self.run(address, check_certificate=False)
        if self._tls is not None:
            self._tls = self._tls.model_copy(update={"problem": problem})

    async def run(self, address: str, *, check_certificate: bool) -> None:
        """All steps after the address is known."""
        client = await self._open(address)
        await self._command("ehlo", client.ehlo(), "banner_error")
        if client.supports_extension("starttls"):
            await self._starttls(client, check_certificate=check_certificate)
        elif self.server["tls"] == "required":
            raise self._fail("starttls", "tls_error", "The server offers no STARTTLS, which this server requires.")
        await self._command("mail_from", client.mail(""), "relay_denied")
        for recipient in self._recipients:
            await self._recipient(client, recipient)
        with self.step("quit") as step:
            step.detail = _text(await _answer(client.quit()))

    async def _open(self, address: str) -> aiosmtplib.SMTP:
        with self.step("connect") as step:
            sock = await _connect(address, self.server["port"])
            step.detail = f"connected to {address}"
        with self.step("banner") as step:
            client = aiosmtplib.SMTP(sock=sock, local_hostname=self._hello, start_tls=False, timeout=COMMAND_SECONDS)
            self._client = client
            try:
                self._banner = step.detail = _text(await client.connect())
            except SMTPConnectResponseError as error:
                raise _Failed("banner_error", f"{error.code} {error.message}") from None
            except (SMTPTimeoutError, TimeoutError):
                raise _Failed("timeout", "The server did not greet in time.") from None
            except (SMTPException, OSError):
                raise _Failed(
                    "banner_error", "The server closed the connection or did not greet as SMTP does."
                ) from None
        return client

    async def _starttls(self, client: aiosmtplib.SMTP, *, check_certificate: bool) -> None:
        context = ssl.create_default_context()
        if not check_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        with self.step("starttls") as step:
            try:
                await client.starttls(server_hostname=self.server["host"], tls_context=context)
            except ssl.SSLCertVerificationError as error:
                raise _BadCertificate(error.verify_message) from None
            except (SMTPTimeoutError, TimeoutError):
                raise _Failed("timeout", "TLS was not ready in time.") from None
            except (SMTPException, ssl.SSLError, OSError) as error:
                if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                    raise _BadCertificate(error.__cause__.verify_message) from None
                raise _Failed("tls_error", "The server offers TLS but it does not work.") from None
            ssl_object = client.get_transport_info("ssl_object")
            cipher = ssl_object.cipher()
            self._tls = TestTls(
                version=ssl_object.version() or "",
                cipher=cipher[0] if cipher else "",
                verified=check_certificate,
                problem=None,
            )
            step.detail = self._tls.version
        await self._command("ehlo", client.ehlo(), "tls_error")

    async def _command(self, name: str, sent: Any, result: Result) -> None:
        with self.step(name) as step:
            response = await _answer(sent)
            step.detail = _text(response)
            if response.code >= 400:
                raise _Failed(result, _text(response))

    async def _recipient(self, client: aiosmtplib.SMTP, recipient: str) -> None:
        with self.step("rcpt_to") as step:
            response = await _answer(client.rcpt(recipient))
            accepted = response.code < 300
            step.detail = f"{recipient}: {_text(response)}"
        self._answers.append(TestRecipient(address=recipient, accepted=accepted, reply=_text(response)))
        if not accepted:
            self._steps[-1] = self._steps[-1].model_copy(update={"ok": False})
            self.result = "relay_denied" if "relay" in response.message.lower() else "recipient_rejected"

    def _fail(self, name: str, result: Result, detail: str) -> _Failed:
        with self.step(name) as step:
            step.detail = detail
        self._steps[-1] = self._steps[-1].model_copy(update={"ok": False})
        return _Failed(result, detail)

    def close(self) -> None:
        """Leave the server, whatever state the dialogue is in."""
        if self._client is not None:
            self._client.close()

    def report(self) -> ServerTest:
        """What the test gave."""
        return ServerTest(
            id=self.server["id"],
            host=self.server["host"],
            port=self.server["port"],
            address=self.address,
            result=self.result,
            banner=self._banner,
            tls=self._tls,
            recipients=self._answers,
            steps=self._steps,
        )


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError:
        sock.close()
        raise _Failed("timeout", "The server did not take the connection in time.") from None
    except OSError:
        sock.close()
        raise _Failed("refused", "The connection was refused.") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _answer(sent: Any) -> aiosmtplib.SMTPResponse:
    """The server's reply, whether it likes the command or not."""
    try:
        response: aiosmtplib.SMTPResponse = await sent
        return response
    except SMTPResponseException as error:
        return aiosmtplib.SMTPResponse(error.code, error.message)
    except (SMTPTimeoutError, TimeoutError):
        raise _Failed("timeout", "The server did not answer in time.") from None
    except (SMTPException, OSError):
        raise _Failed("banner_error", "The server closed the connection.") from None


def _text(response: aiosmtplib.SMTPResponse) -> str:
    """A reply on one line, without anything that a terminal would obey."""
    text = " ".join(response.message.split())
    return f"{response.code} {''.join(char for char in text if char.isprintable())}"[:MAX_TEXT]
