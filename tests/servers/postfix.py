"""A private Postfix with raised limits: one port holds what it takes, the other relays it."""

import shutil
import subprocess
from pathlib import Path

import psutil

from postern_local.ports import free_ports

_MASTER = """\
127.0.0.1:{holding} inet n - n - 200 smtpd -o {{ smtpd_end_of_data_restrictions = check_client_access static:HOLD }}
127.0.0.1:{relaying} inet n - n - 200 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 200 smtp
relay unix - - n - 200 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/mail.log
maillog_file_prefixes = /var, {directory}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
relay_domains = {domain}
relay_transport = smtp:[127.0.0.1]:{sink}
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_event_limit_exceptions = static:all
smtpd_error_sleep_time = 0
default_process_limit = 200
in_flow_delay = 0
initial_destination_concurrency = 50
default_destination_concurrency_limit = 100
smtp_destination_concurrency_limit = 100
qmgr_message_active_limit = 50000
smtp_dns_support_level = disabled
message_size_limit = 104857600
"""


class Postfix:
    """`start`, `stop`; `holding_port` queues and holds, `relaying_port` queues and relays to the sink."""

    def __init__(self, directory: Path, sink_port: int, domain: str = "relay.test") -> None:
        self._directory = directory
        self._sink_port = sink_port
        self._domain = domain
        self.holding_port, self.relaying_port = free_ports(2)

    def start(self) -> None:
        """Write the configuration and start; Postfix makes its queue's folders itself."""
        config = self._directory / "config"
        for folder in (config, self._directory / "queue", self._directory / "data"):
            folder.mkdir(parents=True)
        shutil.chown(self._directory / "data", "postfix")
        text = _MAIN.format(directory=self._directory, sink=self._sink_port, domain=self._domain)
        (config / "main.cf").write_text(text)
        (config / "master.cf").write_text(_MASTER.format(holding=self.holding_port, relaying=self.relaying_port))
        self._command("postfix", "start")

    def stop(self) -> None:
        """Stop it."""
        self._command("postfix", "stop")

    @property
    def master_pid(self) -> int:
        """The process that started all others, while it runs."""
        return int((self._directory / "queue/pid/master.pid").read_text())

    def processor_seconds(self) -> float:
        """Processor time used so far by all of its processes, ended ones too."""
        master = psutil.Process(self.master_pid)
        own = master.cpu_times()
        live = [_times(child) for child in master.children(recursive=True)]
        return float(own.user + own.system + own.children_user + own.children_system + sum(live))

    def empty_hold_queue(self) -> None:
        """Remove what was held, so that every round meets the same queue."""
        self._command("postsuper", "-d", "ALL", "hold")

    def _command(self, name: str, *words: str) -> None:
        command = [f"/usr/sbin/{name}", "-c", str(self._directory / "config"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


def _times(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it ended meanwhile and counts with its parent
        return 0.0
    return float(times.user + times.system)
