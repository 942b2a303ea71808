"""The life of a service process: start, readiness, signals, drain, end.

A service adds its endless tasks, its checks and what to do when draining, then runs until SIGTERM or SIGINT. The first
task that ends by an error ends the process with status 1, loudly: Kubernetes starts it anew. The operations port
answers `/livez` (the event loop turns), `/readyz` (every check passes, and not draining; `?verbose` names them) and
`/metrics`.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from postern_common.settings import CommonSettings

CHECK_SECONDS: Final = 3.0
Check = Callable[[], Awaitable[None]]
Work = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)
_READY = Gauge("postern_common_ready", "1 while the last readiness answer was positive.")


class QuietServer(uvicorn.Server):
    """uvicorn's server without its own signal handlers: the runtime decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def http_server(app: Any, host: str, port: int, *, drain_seconds: float = 10.0) -> QuietServer:
    """A uvicorn server for `app` that logs through structlog only and does not tell its name."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, int(drain_seconds)),
    )
    return QuietServer(config)


class Runtime:
    """Runs one service: `add_task`, `add_check`, `on_drain`, `on_close`, then `run`."""

    def __init__(self, service: str, settings: CommonSettings) -> None:
        self.service = service
        self.draining = False
        self._settings = settings
        self._tasks: list[tuple[str, Work]] = []
        self._checks: list[tuple[str, Check, bool]] = []
        self._drains: list[tuple[str, Work]] = []
        self._closes: list[Work] = []
        self._stop = asyncio.Event()
        self._failed = False

    def add_task(self, name: str, work: Work) -> None:
        """Run `work()` for the life of the process; its end by an error ends the process."""
        self._tasks.append((name, work))

    def add_check(self, name: str, check: Check, *, required: bool = True) -> None:
        """Add a readiness check: it raises when the service cannot do its work.

        One that is not `required` is shown by `/readyz?verbose` alone: the service does its work without.
        """
        self._checks.append((name, check, required))

    def on_drain(self, name: str, work: Work) -> None:
        """Do `work()` when stopping, in the order of registration, while the tasks still run."""
        self._drains.append((name, work))

    def on_close(self, work: Work) -> None:
        """Do `work()` at the very end."""
        self._closes.append(work)

    def stop(self) -> None:
        """Begin to stop, as a signal does."""
        self._stop.set()

    async def run(self) -> int:
        """Run until stopped; the process's exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        ops = http_server(self._ops_app(), self._settings.ops_host, self._settings.ops_port, drain_seconds=1)
        running = {asyncio.create_task(self._guard("ops", ops.serve), name="ops")}
        running |= {asyncio.create_task(self._guard(name, work), name=name) for name, work in self._tasks}
        log.info("started", tasks=[name for name, _ in self._tasks])
        await self._stop.wait()
        await self._drain()
        for task in running:
            if task.get_name() != "ops":
                task.cancel()
        ops.should_exit = True
        await asyncio.wait(running, timeout=5)
        for close in self._closes:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(close(), CHECK_SECONDS)
        log.info("stopped", failed=self._failed)
        return 1 if self._failed else 0

    async def _guard(self, name: str, work: Work) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            if not self._stop.is_set():  # nobody here cancelled it: a library's future was
                log.error("task_cancelled", task=name)
                self._fail()
            raise
        except SystemExit as error:  # uvicorn's answer to a port that is taken
            log.error("task_exited", task=name, status=error.code)
            self._fail()
        except Exception:
            log.exception("task_failed", task=name)
            self._fail()
        else:
            if not self._stop.is_set():
                log.error("task_ended", task=name)
                self._fail()

    def _fail(self) -> None:
        self._failed = True
        self._stop.set()

    async def _drain(self) -> None:
        self.draining = True
        if not self._failed:
            await asyncio.sleep(self._settings.drain_notice_seconds)
        log.info("draining", seconds=self._settings.drain_seconds)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                for name, work in self._drains:
                    try:
                        await work()
                    except Exception:
                        log.exception("drain_step_failed", step=name)
        except TimeoutError:
            log.warning("drain_timed_out", seconds=self._settings.drain_seconds)
        log.info("drained", took_seconds=round(time.monotonic() - began, 3))

    # -- operations port ----------------------------------------------------------------------------------------------

    def _ops_app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
            ]
        )

    async def _livez(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _metrics(self, _request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def _readyz(self, request: Request) -> Response:
        results = await self.readiness()
        ready = all(good or not required for good, required in results.values())
        _READY.set(ready)
        lines = [f"{name}: {_word(good, required)}" for name, (good, required) in results.items()]
        text = "\n".join(lines) if "verbose" in request.query_params else "ok" if ready else "not ready"
        return PlainTextResponse(text + "\n", status_code=200 if ready else 503)

    async def readiness(self) -> dict[str, tuple[bool, bool]]:
        """Each check's name, whether it passes now, and whether it must."""
        passed = await asyncio.gather(*(self._passes(name, check) for name, check, _ in self._checks))
        outcomes = {name: (good, required) for (name, _, required), good in zip(self._checks, passed, strict=True)}
        return {"serving": (not self.draining, True), **outcomes}

    async def _passes(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except Exception as error:  # noqa: BLE001 - whatever it is, the check does not pass
            log.debug("check_failed", check=name, error=type(error).__name__)
            return False
        return True


def _word(good: bool, required: bool) -> str:
    if good:
        return "ok"
    return "failed" if required else "failed (not needed for readiness)"
