"""The commands behind `make run`, `up`, `down`, `status` and `logs`, and `publish` for a stack's DNS."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from postern_local import envfile, state, supervisor
from postern_local.console import Progress
from postern_local.faults import StackFault
from postern_local.guide import Guide
from postern_local.launcher import Launcher, Lock
from postern_local.ports import Ports
from postern_local.publish import publish
from postern_local.services import ADMIN_LOGIN
from postern_local.status import follow_logs, show

DEMO = "demo"


class Interrupted(BaseException):
    """A person or the system asked us to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; the exit status says how it went."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    _stop_on_signals()
    try:
        return _carry_out(options, os.environ, progress)
    except StackFault as fault:
        print(f"postern: {fault}", file=sys.stderr)
        return 1
    except (Interrupted, KeyboardInterrupt):
        return 130


def _carry_out(options: argparse.Namespace, environment: Mapping[str, str], progress: Progress) -> int:
    directory = Path(environment.get("POSTERN_LOCAL_DIR") or ".local").absolute()
    ports = Ports.from_environment(environment)
    if options.command == "run":
        return run(directory / DEMO, ports, environment, progress, once=options.once)
    if options.command == "supervise":
        try:
            supervisor.supervise(directory, ports, environment, progress)
        except Interrupted:
            return 0
    elif options.command == "up":
        supervisor.up(directory, progress)
        progress.say(
            f"Ready. API http://127.0.0.1:{ports['API']}/docs, addresses and credentials in {directory / 'env'}"
        )
    elif options.command == "down":
        supervisor.down(directory, progress)
    elif options.command == "status":
        return 0 if show(_active(directory), progress) else 3
    elif options.command == "publish":
        publish(options.name, options.type, options.values, environment)
        progress.say(f"{options.name} has {len(options.values)} {options.type} record(s) now.")
    elif options.command == "logs":
        follow_logs(_active(directory), options.parts, options.follow)
    return 0


def run(directory: Path, ports: Ports, environment: Mapping[str, str], progress: Progress, *, once: bool) -> int:
    """Start a fresh stack, play the guided setup, stay until a signal (or not, with `once`)."""
    _refuse_beside_up(directory.parent)
    finished = False
    launcher = Launcher(directory, ports, environment, progress)
    try:
        with launcher:
            _start_fresh(launcher)
            state.write(directory, "starting", ports.numbers)
            launcher.start()
            guide = _play(launcher, progress)
            settings = envfile.values(
                launcher.surroundings(), launcher.nameserver, launcher.next_hop, guide.customer_id
            )
            envfile.write(directory / "env", settings)
            state.write(directory, "ready", ports.numbers)
            finished = True
            if not once:
                _tell_where_to_look(progress, settings, directory)
                launcher.watch()
    except Interrupted:
        if not finished:
            raise
    if once:
        _tell_what_is_left(progress, launcher)
    return 0


def _play(launcher: Launcher, progress: Progress) -> Guide:
    private = launcher.backends is not None and launcher.backends.private
    guide = Guide(
        f"http://127.0.0.1:{launcher.ports['API']}",
        ADMIN_LOGIN,
        launcher.keys.admin_password,
        ("127.0.0.1", launcher.ports["SMTP_IN"]),
        launcher.nameserver,
        launcher.next_hop,
        progress,
        domain="demo.test" if private else f"{os.urandom(4).hex()}.demo.test",
    )
    guide.play()
    return guide


def _start_fresh(launcher: Launcher) -> None:
    """Remove what the last run left in its folder, but only if that folder is one of ours."""
    directory = launcher.directory
    for name in ("mongod", "rabbitmq", "named", "nexthop", "log", "run"):
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / "env").unlink(missing_ok=True)
    for name in ("log", "run"):
        (directory / name).mkdir()


def _refuse_beside_up(directory: Path) -> None:
    holder = Lock(directory).holder()
    if holder is not None:
        raise StackFault(
            f"`make up` runs from {directory} (process {holder}): `make down` first, "
            "or set POSTERN_LOCAL_DIR and POSTERN_PORT_* to run a second stack"
        )


def _active(directory: Path) -> Path:
    """The folder of the stack that runs: that of `up`, else that of `run`."""
    demo = directory / DEMO
    if Lock(directory).holder() is not None or not (demo / "lock").exists():
        return directory
    return demo if Lock(demo).holder() is not None or not (directory / "log").exists() else directory


def _tell_where_to_look(progress: Progress, settings: Mapping[str, str], directory: Path) -> None:
    progress.title("It stays up until Ctrl-C. Where to look:")
    progress.note(
        f"HTTP API    {settings['POSTERN_API_URL']}/docs   (sign in as {settings['POSTERN_ADMIN_LOGIN']})",
        f"credentials {directory / 'env'}",
        f"messages    {settings['POSTERN_NEXT_HOP_DIR']}",
        f"logs        {directory / 'log'}   (make logs)",
        "",
        f"set -a; . {directory / 'env'}; set +a",
        'swaks --server "$POSTERN_SMTP_IN" --from you@example.org --to ada@demo.test',
        'curl -H "Authorization: Bearer $POSTERN_API_TOKEN" "$POSTERN_API_URL/v1/customers"',
    )


def _tell_what_is_left(progress: Progress, launcher: Launcher) -> None:
    progress.title("The stack has ended. Where to look:")
    progress.note(
        f"the message {launcher.next_hop.directory}",
        f"logs        {launcher.directory / 'log'}",
        "make up     starts a stack that stays; docs/quickstart.md goes on from there",
    )


def _stop_on_signals() -> None:
    """The first signal unwinds what runs; while that happens only a further Ctrl-C counts, and makes it hurry."""

    def first(_number: int, _frame: FrameType | None) -> None:
        for name in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise Interrupted

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, first)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="postern_local", description="The Postern stack on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    run_command = commands.add_parser("run", help="start everything and play the guided setup")
    run_command.add_argument("--once", action="store_true", help="stop after the delivered message")
    commands.add_parser("up", help="start the stack in the background")
    commands.add_parser("down", help="stop the stack in the background")
    commands.add_parser("status", help="what runs, and whether it is ready")
    publish_command = commands.add_parser("publish", help="set a DNS record of the stack whose env file was read")
    publish_command.add_argument("name", help="below a zone of POSTERN_DNS_ZONES")
    publish_command.add_argument("values", nargs="*", metavar="value", help="replace what is there; none removes it")
    publish_command.add_argument("--type", default="TXT", help="of the record (default TXT)")
    commands.add_parser("supervise", help="what `up` starts: a stack without a terminal")
    logs = commands.add_parser("logs", help="the logs")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as they grow")
    logs.add_argument("parts", nargs="*", help="only of these parts")
    return parser
