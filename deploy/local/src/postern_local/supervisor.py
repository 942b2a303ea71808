"""The stack in the background: what `make up` starts and `make down` ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from postern_local import envfile, state
from postern_local.apiclient import Api
from postern_local.console import Progress
from postern_local.faults import StackFault
from postern_local.guide import CUSTOMER
from postern_local.launcher import Launcher, Lock
from postern_local.ports import Ports
from postern_local.process import Processes

_START_SECONDS = 240.0


def supervise(directory: Path, ports: Ports, environment: Mapping[str, str], progress: Progress) -> None:
    """Run a stack until a signal: start it, see to the demo customer, write `env`, keep it up."""
    with Launcher(directory, ports, environment, progress) as launcher:
        state.write(directory, "starting", ports.numbers)
        launcher.start()
        customer = demo_customer(f"http://127.0.0.1:{ports['API']}", launcher.keys.api_token)
        settings = envfile.values(launcher.surroundings(), launcher.nameserver, launcher.next_hop, customer)
        envfile.write(directory / "env", settings)
        state.write(directory, "ready", ports.numbers)
        launcher.watch()


def demo_customer(url: str, token: str) -> str:
    """The id of the demo customer, created at the first start."""
    with Api(url, token) as api:
        cursor = ""
        while True:
            page = api.get(f"/v1/customers?limit=200{cursor}")
            for customer in page["items"]:
                if customer["name"] == CUSTOMER:
                    return str(customer["id"])
            if page["next_cursor"] is None:
                return str(api.post("/v1/customers", {"name": CUSTOMER})["id"])
            cursor = f"&cursor={page['next_cursor']}"


def up(directory: Path, progress: Progress) -> None:
    """Start the supervisor and show its progress; returns when the stack is ready."""
    if Lock(directory).holder() is not None and state.read(directory).get("phase") == "ready":
        progress.say(f"Already up; its addresses are in {directory / 'env'}.")
        return
    Lock(directory).check()
    state.clear(directory)
    log = directory / "log" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "postern_local", "supervise"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _follow(directory, process, log, progress)
    except BaseException:
        if process.poll() is None:
            progress.say("Stopping …")
            process.terminate()
            process.wait(60)
            progress.say("Stopped.")
        raise


def _follow(directory: Path, process: subprocess.Popen[bytes], log: Path, progress: Progress) -> None:
    """Show what the supervisor says until it is ready or gives up (its last words are the reason)."""
    deadline = time.monotonic() + _START_SECONDS
    with log.open() as lines:
        while state.read(directory).get("phase") != "ready":
            ended = process.poll() is not None
            for line in lines:
                progress.say(line.rstrip("\n"))
            if ended:
                raise StackFault("the stack did not start")
            if time.monotonic() > deadline:
                raise StackFault(f"the stack is not ready after {_START_SECONDS:.0f} s; see {log}")
            time.sleep(0.1)
        for line in lines:
            progress.say(line.rstrip("\n"))


def down(directory: Path, progress: Progress) -> None:
    """End the stack that runs from this folder, and whatever an earlier one left; fine when nothing runs."""
    lock = Lock(directory)
    holder = lock.holder()
    if holder is not None:
        _end(lock, holder)
    lock.take()
    try:
        left = Processes(directory).sweep()
    finally:
        lock.release()
    state.clear(directory)
    (directory / "env").unlink(missing_ok=True)
    if holder is not None:
        progress.say("Stopped.")
    elif left:
        progress.say(f"Nothing was up; ended {left} processes that an earlier run left behind.")
    else:
        progress.say("Nothing is up.")


def _end(lock: Lock, holder: int) -> None:
    """The holder of the lock is ours by definition: nobody else takes it."""
    for sign, patience in ((signal.SIGTERM, 90.0), (signal.SIGKILL, 10.0)):
        if lock.holder() != holder:
            return
        os.kill(holder, sign)
        deadline = time.monotonic() + patience
        while lock.holder() == holder and time.monotonic() < deadline:
            time.sleep(0.05)
