"""`postern-sync-agent`: enrols, runs, and tells what it does (docs/agent.md)."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sqlite3
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import structlog

from postern_common.telemetry import configure_logging, package_version
from postern_sync.agent.adapters.server import Refused, Revoked, Server, Unreachable
from postern_sync.agent.config import DEFAULT_PATH, AgentConfig, ConfigFault, load, read_secret, write_secret
from postern_sync.agent.directory import Directory, attributes_read
from postern_sync.agent.loop import Agent
from postern_sync.agent.state import Busy, State, alone, seen
from postern_sync.rules.ldap_presets import PRESETS
from postern_sync.source import SourceFailed

EX_UNAVAILABLE: Final = 69
EX_IOERR: Final = 74
EX_NOPERM: Final = 77
EX_CONFIG: Final = 78
INTERRUPTED: Final = 130  # as a shell tells of Ctrl-C
TOKEN: Final = "token"  # noqa: S105 - a file's name
PLAIN: Final = "the connection to the server is not encrypted; whoever works on this machine may read it, tokens too"
REVOKED: Final = "the server does not know this agent any more: add it anew and enrol it"

log = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = load(options.config)
        _check_folder(config.state_dir)
        return _carried_out(options, config)
    except ConfigFault as fault:
        print(f"postern-sync-agent: {fault}", file=sys.stderr)
        return EX_CONFIG
    except Revoked:
        print(f"postern-sync-agent: {REVOKED}", file=sys.stderr)
        return EX_NOPERM
    except (Unreachable, Refused) as error:
        print(f"postern-sync-agent: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        return INTERRUPTED


def _carried_out(options: argparse.Namespace, config: AgentConfig) -> int:
    command: Callable[[AgentConfig, argparse.Namespace], int] = options.command
    try:
        return command(config, options)
    except Busy:
        fault = "another one works with it"
    except (sqlite3.Error, OSError) as error:
        fault = str(error)
    print(f"postern-sync-agent: {config.state_dir}: {fault}", file=sys.stderr)
    return EX_IOERR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="postern-sync-agent", description="Reads a directory for Postern.")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help=f"settings ({DEFAULT_PATH})")
    parser.add_argument("--version", action="version", version=package_version())
    commands = parser.add_subparsers(required=True)
    enrol = commands.add_parser("enrol", help="spend an enrolment code on a token; the code is read from the input")
    enrol.set_defaults(command=_enrol)
    commands.add_parser("run", help="work until stopped").set_defaults(command=_run)
    commands.add_parser("once", help="do what is asked for now, and end").set_defaults(command=_once)
    commands.add_parser("status", help="tell what was done last").set_defaults(command=_status)
    attributes = commands.add_parser("attributes", help="tell which attributes are read")
    attributes.add_argument("--preset", choices=sorted(PRESETS), help="of this kind of directory")
    attributes.set_defaults(command=_attributes)
    return parser


def _log_to_stderr(level: str) -> None:
    """What a command prints stays apart from its log."""
    configure_logging("postern-sync-agent", level, sys.stderr)
    for name in ("httpx2", "httpcore2"):  # some lines for each request otherwise, with headers
        logging.getLogger(name).setLevel(logging.WARNING)


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ConfigFault(f"{folder}: {error.strerror}") from None
    if found.st_mode & stat.S_IWOTH:
        raise ConfigFault(f"{folder}: everybody may write there; make it 0700")


def _check_owner(folder: Path) -> None:
    """What root writes there the agent could not read."""
    if os.geteuid() == 0 != folder.stat().st_uid:
        raise ConfigFault(f"{folder}: run this as the user whom it belongs to, not as root")


def _enrol(config: AgentConfig, _options: argparse.Namespace) -> int:
    """The code comes by the input, so that it stands in no list of processes."""
    _check_owner(config.state_dir)
    if sys.stdin.isatty():
        print("Enrolment code: ", end="", flush=True)
    code = sys.stdin.readline().strip()
    if not code:
        raise ConfigFault("no enrolment code was given")

    try:
        write_secret(config.state_dir / "try", "x")  # before the code is spent
        (config.state_dir / "try").unlink()
    except OSError as error:
        raise ConfigFault(f"{config.state_dir}: {error.strerror}") from None

    if config.is_plain:
        print(f"postern-sync-agent: {config.url}: {PLAIN}", file=sys.stderr)

    async def enrol() -> dict[str, Any]:
        async with Server(config, None) as server:
            return await server.enrol(code)

    try:
        made = asyncio.run(enrol())
    except Revoked:
        print("postern-sync-agent: the code is wrong, was used before, or is older than an hour", file=sys.stderr)
        return EX_NOPERM
    write_secret(config.state_dir / TOKEN, made["token"])
    print(f"enrolled as {made['agent_id']}")
    return 0


async def _with_agent(config: AgentConfig, work: Callable[[Agent], Awaitable[Any]]) -> Any:
    _log_to_stderr(config.log_level)
    _check_owner(config.state_dir)
    token_file = config.state_dir / TOKEN
    if not token_file.exists():
        raise ConfigFault("not enrolled yet: run `postern-sync-agent enrol` first")
    directory = Directory(config.ldap)
    directory.check()
    if config.is_plain:
        log.warning("server_without_tls", url=config.url, reason=PLAIN)
    token = read_secret(token_file)
    if not (token and token.isascii() and token.isprintable()):
        raise ConfigFault(f"{token_file}: it holds no token: enrol anew")
    with alone(config.state_dir), closing(State(config.state_dir)) as state:
        async with Server(config, token) as server:
            return await work(Agent(server, state, directory, token_file, rotate_days=config.rotate_days))


def _run(config: AgentConfig, _options: argparse.Namespace) -> int:
    async def work(agent: Agent) -> None:
        running = asyncio.create_task(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        log.info("agent_started", version=package_version())
        try:
            await running
        except asyncio.CancelledError:
            log.info("agent_stopped")

    asyncio.run(_with_agent(config, work))
    return 0


def _once(config: AgentConfig, _options: argparse.Namespace) -> int:
    did = asyncio.run(_with_agent(config, lambda agent: agent.once()))
    print("the directory was read" if did else "nothing was asked for")
    return 0


def _status(config: AgentConfig, _options: argparse.Namespace) -> int:
    noted = seen(config.state_dir, "prepared", "scan_round", "base_round")
    told = {
        "url": config.url,
        "enrolled": (config.state_dir / TOKEN).exists(),
        "last_round": noted.get("scan_round") or noted.get("base_round"),
        "being_sent": (noted.get("prepared") or {}).get("round_id"),
        "version": package_version(),
    }
    print(json.dumps(told, indent=2))
    return 0


def _attributes(config: AgentConfig, options: argparse.Namespace) -> int:
    settings = seen(config.state_dir, "settings").get("settings") or {}
    if options.preset is not None:
        settings = {"preset": options.preset}
    try:
        found = attributes_read(settings)
    except SourceFailed as error:
        raise ConfigFault(error.message) from None
    for kind, names in found.items():
        print(f"{kind}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
