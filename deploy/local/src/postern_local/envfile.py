"""The addresses and credentials of a running stack as one file that a shell script sources (`. .local/env`)."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from postern_local.files import write_private
from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink
from postern_local.ports import Ports
from postern_local.services import ADMIN_LOGIN, MODULES, Surroundings

_LATER = "# Nothing listens at POSTERN_SMTP_OUT yet: outbound mail comes later."


def values(around: Surroundings, nameserver: Nameserver, next_hop: SmtpSink, customer_id: str) -> dict[str, str]:
    """Every name that scripts may rely on."""
    ports: Ports = around.ports
    return {
        "POSTERN_API_URL": f"http://127.0.0.1:{ports['API']}",
        "POSTERN_API_TOKEN": around.keys.api_token,
        "POSTERN_ADMIN_LOGIN": ADMIN_LOGIN,
        "POSTERN_ADMIN_PASSWORD": around.keys.admin_password,
        "POSTERN_CUSTOMER_ID": customer_id,
        "POSTERN_SMTP_IN": f"127.0.0.1:{ports['SMTP_IN']}",
        "POSTERN_SMTP_OUT": f"127.0.0.1:{ports['SMTP_OUT']}",
        "POSTERN_DNS": f"127.0.0.1:{ports['DNS']}",
        "POSTERN_DNS_UPDATE": f"127.0.0.1:{ports['DNS']}",
        "POSTERN_DNS_TSIG": nameserver.tsig,
        "POSTERN_DNS_ZONES": " ".join(nameserver.zones),
        "POSTERN_NEXT_HOP": next_hop.address,
        "POSTERN_NEXT_HOP_DIR": str(next_hop.directory),
        "POSTERN_OPS_URLS": json.dumps({kind: f"http://127.0.0.1:{ports['OPS_' + kind.upper()]}" for kind in MODULES}),
        "MONGODB_URI": around.mongodb_uri,
        "AMQP_URL": around.amqp_url,
    }


def write(path: Path, settings: Mapping[str, str]) -> None:
    """One `NAME=value` a line for readers of any kind, and an export of all for shells; readable by its owner alone."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    write_private(path, "\n".join([_LATER, *lines, f"export {' '.join(settings)}"]) + "\n")
