"""Settings of the SMTP edge: where it listens, what one client may use up, and how it commits and delivers.

All of them come from the environment (`POSTERN_EDGE_…`) and are checked before the service starts. The inbound half
reads them through its own limits object; the outbound half takes the ones it needs in `app.py`, the one place that
knows all.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from postern_common.netguard import Network
from postern_common.settings import CommonSettings, networks_of

MIB = 1024 * 1024


class EdgeSettings(CommonSettings):
    """What the edge needs beside the common settings."""

    edge_host: str = Field("0.0.0.0", description="Address on which mail is taken.")
    edge_port: int = Field(2525, ge=1, le=65535, description="Port on which mail is taken; the cluster maps 25 to it.")
    edge_reuse_port: bool = Field(
        False, description="Let several edges on one machine share the port; the kernel spreads the connections."
    )
    edge_proxy_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks of load balancers as comma separated CIDRs. Their connections must begin with a PROXY "
        "header (version 1 or 2) that names the client; nobody else's is believed.",
    )
    edge_postmaster_domain: str = Field(
        "",
        max_length=253,
        pattern=r"^[A-Za-z0-9.-]*$",
        description="Domain for mail to `postmaster` without one (RFC 5321 4.5.1); empty: the host name.",
    )
    edge_hostname: str = Field(
        "localhost.localdomain",
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9.-]+$",
        description="Name in the banner, in Received and in EHLO to next hops; should be the MX name.",
    )
    edge_tls_certificate_file: Path | None = Field(
        None, description="Certificate chain (PEM) offered by STARTTLS; read again when it changes. Unset: no STARTTLS."
    )
    edge_tls_key_file: Path | None = Field(None, description="Private key (PEM) of the certificate.")

    edge_max_message_bytes: int = Field(
        50 * MIB,
        ge=64 * 1024,
        le=1024 * MIB,
        description="Largest message; a customer may have a smaller one (SPEC R13).",
    )
    edge_max_recipients: int = Field(
        500, ge=100, le=50_000, description="Recipients of one message."
    )  # RFC 5321 4.5.3.1.8
    edge_max_line_bytes: int = Field(
        64 * 1024, ge=1000, le=1024 * 1024, description="Longest line of a message; such lines pass unchanged."
    )  # RFC 5322 2.1.1 has 998, signed mail has longer ones
    edge_max_connections: int = Field(2000, ge=1, description="Connections at one time.")
    edge_max_connections_per_address: int = Field(
        250, ge=1, description="Connections at one time from one client address."
    )
    edge_max_messages_per_connection: int = Field(10_000, ge=1, description="Messages in one connection.")
    edge_max_errors: int = Field(100, ge=1, description="Refused commands in one connection before it is closed.")
    edge_command_timeout_seconds: float = Field(
        300.0, gt=0, description="Wait for the next command."
    )  # RFC 5321 4.5.3.2.7
    edge_data_timeout_seconds: float = Field(180.0, gt=0, description="Wait for the next piece of a message.")
    edge_message_timeout_seconds: float = Field(1800.0, gt=0, description="Longest time that one message may take.")

    edge_in_flight_bytes: int = Field(
        256 * MIB, ge=MIB, description="Bodies held in memory by readers, the group commit and first attempts together."
    )
    edge_commit_writers: int = Field(2, ge=1, le=16, description="Group commits under way at one time.")
    edge_commit_messages: int = Field(100, ge=1, le=1000, description="Messages in one group commit.")
    edge_commit_bytes: int = Field(8 * MIB, ge=MIB, le=32 * MIB, description="Bytes of bodies in one group commit.")

    edge_deliveries: int = Field(
        200, ge=0, le=5000, description="Messages being delivered at one time; 0: this edge only takes mail."
    )
    edge_deliveries_per_server: int = Field(
        20, ge=1, le=1000, description="Connections to one mail server at one time."
    )
    edge_idle_connection_seconds: float = Field(
        5.0, ge=0, le=60, description="How long an idle connection is kept for reuse."
    )
    edge_connect_timeout_seconds: float = Field(
        30.0, gt=0, description="Wait for a mail server's connection and banner."
    )
    edge_reply_timeout_seconds: float = Field(
        300.0, gt=0, description="Wait for a reply to MAIL, RCPT, DATA."
    )  # RFC 5321 4.5.3.2
    edge_final_reply_timeout_seconds: float = Field(600.0, gt=0, description="Wait for the reply to a message's end.")
    edge_tls_timeout_seconds: float = Field(30.0, gt=0, description="Wait for a TLS handshake with a mail server.")
    edge_lease_seconds: float = Field(60.0, ge=3, le=3600, description="How long a message is reserved for one edge.")
    edge_poll_seconds: float = Field(
        1.0, gt=0, le=60, description="How often due messages and unsent events are looked for."
    )
    edge_queue_lifetime_seconds: int = Field(
        5 * 86_400, ge=3600, description="How long delivery is tried before a message is returned (SPEC R5)."
    )
    edge_first_retry_seconds: float = Field(60.0, gt=0, description="Wait before the second attempt; later ones grow.")
    edge_mx_port: int = Field(25, ge=1, le=65535, description="Port of the mail exchangers that notifications go to.")
    edge_dns_validates: bool | None = Field(
        None,
        description="Whether the resolvers validate DNSSEC and are reached over a way that nobody can change, so that "
        "their AD bit is believed and DANE is done. Unset: if and only if all of them are on this machine's loopback.",
    )
    edge_sts_port: int = Field(
        443, ge=1, le=65535, description="Port at which MTA-STS policies are fetched; another one is for tests."
    )
    edge_dsn_per_sender_per_hour: int = Field(
        20, ge=0, description="Most delivery status notifications to one sender an hour."
    )
    edge_directory_fresh_seconds: float = Field(
        30.0, gt=0, description="Past this silence of the change stream, unknown recipients are deferred, not refused."
    )

    @field_validator("edge_proxy_networks", mode="before")
    @classmethod
    def _split_proxy_networks(cls, value: object) -> object:
        return networks_of(value)

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.edge_tls_certificate_file is None) != (self.edge_tls_key_file is None):
            raise ValueError("POSTERN_EDGE_TLS_CERTIFICATE_FILE and POSTERN_EDGE_TLS_KEY_FILE belong together")
        return self
