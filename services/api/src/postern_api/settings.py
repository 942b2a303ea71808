"""Settings of the API: environment variables `POSTERN_API_*` beside the common ones."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from postern_common.addresses import parse_domain
from postern_common.errors import Rejected
from postern_common.settings import CommonSettings, read_secret

MEBIBYTE: Final = 1024 * 1024
MIN_PASSWORD: Final = 12
MIN_TOKEN: Final = 24


def _is_host_name(text: str) -> bool:
    try:
        return parse_domain(text).ascii == text
    except Rejected:
        return False


class ApiSettings(CommonSettings):
    """What the API needs to know."""

    api_host: str = Field("0.0.0.0", description="Address that the API listens on.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port that the API listens on.")
    api_bootstrap_login: str = Field(
        "", max_length=254, description="Sign-in name of the first platform administrator."
    )
    api_bootstrap_password: SecretStr = Field(
        SecretStr(""), description="The first administrator's password, used once."
    )
    api_bootstrap_password_file: Path | None = Field(None, description="File that holds `api_bootstrap_password`.")
    api_bootstrap_token: SecretStr = Field(
        SecretStr(""), description="A platform token for scripts; it lives as long as this setting names it."
    )
    api_bootstrap_token_file: Path | None = Field(None, description="File that holds `api_bootstrap_token`.")
    api_max_message_bytes: int = Field(
        50 * MEBIBYTE,
        ge=MEBIBYTE,
        le=512 * MEBIBYTE,
        description="Largest message size that a customer may set, in octets.",
    )
    api_max_body_bytes: int = Field(MEBIBYTE, ge=4096, le=64 * MEBIBYTE, description="Largest request body, in octets.")
    api_max_import_bytes: int = Field(
        32 * MEBIBYTE,
        ge=MEBIBYTE,
        le=512 * MEBIBYTE,
        description="Largest file of users that may be uploaded, in octets.",
    )
    api_import_review_seconds: float = Field(
        1800.0, ge=1, le=86400, description="How long reading one imported file may take."
    )
    api_max_exports: int = Field(  # each takes a thread, of which a process has five or more
        2, ge=1, le=4, description="Workbooks that one process writes at once for exports; further ones get 429."
    )
    api_max_imports: int = Field(50, ge=1, le=10_000, description="Imports that are kept for a customer at once.")
    api_max_requests: int = Field(
        400, ge=10, le=100_000, description="Requests that are answered at once; further ones get 503 at once."
    )
    api_max_trace_days: int = Field(
        365, ge=1, le=3650, description="Longest retention of the trace that a customer may set."
    )
    api_max_quarantine_days: int = Field(365, ge=1, le=3650, description="Longest retention of the quarantine.")
    api_max_audit_days: int = Field(3650, ge=1, le=3650, description="Longest retention of the audit log.")
    api_max_deleted_users_days: int = Field(365, ge=1, le=3650, description="Longest retention of deleted users.")
    api_session_hours: int = Field(12, ge=1, le=720, description="How long a sign-in lasts.")
    api_sign_in_failures_per_account: int = Field(
        10, ge=1, le=1000, description="Failed sign-ins of one account in a window."
    )
    api_sign_in_failures_per_origin: int = Field(
        50, ge=1, le=100000, description="Failed sign-ins of one address in a window."
    )
    api_sign_in_window_seconds: int = Field(
        900, ge=1, le=86400, description="Length of the window that counts failures."
    )
    api_max_domains: int = Field(1000, ge=1, le=100_000, description="Domains that a customer may have.")
    api_max_sites: int = Field(200, ge=1, le=10_000, description="Sites that a customer may have.")
    api_max_tokens: int = Field(200, ge=1, le=10_000, description="Tokens that a customer, or a person, may have.")
    api_max_verifications: int = Field(
        10, ge=1, le=1000, description="Verify requests of one customer that wait for their answers at once."
    )
    api_verify_wait_seconds: float = Field(
        30.0, gt=0, le=60, description="How long a verify request waits for its answer."
    )
    api_max_directory_questions: int = Field(
        4, ge=1, le=1000, description="Tests of a directory and looks at its entries that one customer has at once."
    )
    api_directory_wait_seconds: float = Field(
        25.0, gt=0, le=60, description="How long a test of a directory, or a look at its entries, waits for its answer."
    )
    api_approval_wait_seconds: float = Field(
        20.0, gt=0, le=60, description="How long an approval of a plan waits for what comes of it."
    )
    api_max_directory_rules: int = Field(
        10_000, ge=1, le=100_000, description="Exceptions, and additions, that a customer may have."
    )
    api_max_agents: int = Field(10, ge=1, le=1000, description="Agents that a customer may have.")
    api_agent_wait_seconds: float = Field(
        25.0, gt=0, le=60, description="How long an agent's request for work waits for some."
    )
    api_agent_requests_per_minute: int = Field(
        600, ge=10, le=100_000, description="Requests that one agent may make in a minute."
    )
    api_max_agent_page_bytes: int = Field(
        8 * MEBIBYTE, ge=MEBIBYTE, le=64 * MEBIBYTE, description="Largest page of an agent, unpacked, in octets."
    )
    api_max_agent_round_bytes: int = Field(
        2048 * MEBIBYTE,
        ge=MEBIBYTE,
        le=64 * 1024 * MEBIBYTE,
        description="Largest sum of an agent's pages that wait for a run, unpacked, in octets.",
    )
    api_trusted_proxies: str = Field("", description="Proxies whose X-Forwarded-For is believed, comma separated.")
    api_own_mx_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="This deployment's own MX hosts, comma separated: no site may point at them."
    )

    api_policy_host: str = Field(
        "",
        max_length=253,
        description="Public host name of the server of MTA-STS policies, to which customers point `mta-sts.<domain>`; "
        "empty: policies are not offered.",
    )
    api_policy_port: int = Field(
        0, ge=0, le=65535, description="Port of the server of MTA-STS policies, apart from the API's; 0: none."
    )

    @field_validator("api_policy_host")
    @classmethod
    def _check_policy_host(cls, value: str) -> str:
        try:
            return parse_domain(value).ascii if value else ""
        except Rejected as error:
            raise ValueError(error.message) from None

    @field_validator("api_own_mx_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower().removesuffix(".") for part in value.split(",") if part.strip())
        return value

    @field_validator("api_trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        for part in value.split(","):
            if part.strip():
                ip_network(part.strip())
        return value

    @model_validator(mode="after")
    def _check_bootstrap(self) -> Self:
        if self.api_bootstrap_login and len(self.bootstrap_password()) < MIN_PASSWORD:
            raise ValueError(f"POSTERN_API_BOOTSTRAP_PASSWORD needs {MIN_PASSWORD} characters or more")
        if 0 < len(self.bootstrap_token()) < MIN_TOKEN:
            raise ValueError(f"POSTERN_API_BOOTSTRAP_TOKEN needs {MIN_TOKEN} characters or more")
        return self

    @model_validator(mode="after")
    def _check_policies(self) -> Self:
        if self.api_policy_host and not self.api_own_mx_hosts:
            raise ValueError("POSTERN_API_POLICY_HOST needs POSTERN_API_OWN_MX_HOSTS, which policies name")
        if self.api_policy_host and not self.api_policy_port:
            raise ValueError("POSTERN_API_POLICY_HOST needs POSTERN_API_POLICY_PORT, where policies are served")
        for host in self.api_own_mx_hosts if self.api_policy_host else ():
            if not _is_host_name(host):
                raise ValueError(f"POSTERN_API_OWN_MX_HOSTS: {host!r} is no host name that a policy could name")
        return self

    @property
    def sign_in_window(self) -> timedelta:
        """How long failures are counted together."""
        return timedelta(seconds=self.api_sign_in_window_seconds)

    def bootstrap_password(self) -> str:
        """The first administrator's password, from its file where one is named."""
        return read_secret(self.api_bootstrap_password, self.api_bootstrap_password_file)

    def bootstrap_token(self) -> str:
        """The scripts' platform token, from its file where one is named."""
        return read_secret(self.api_bootstrap_token, self.api_bootstrap_token_file)

    @property
    def is_production(self) -> bool:
        """Whether cookies need TLS and reserved test names are refused."""
        return self.environment == "production"
