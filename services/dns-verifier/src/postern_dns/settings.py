"""Settings of the DNS verifier, beside the common ones."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from postern_common.addresses import parse_address
from postern_common.errors import Rejected
from postern_common.settings import CommonSettings


class DnsSettings(CommonSettings):
    """How domains are looked at, and what their mail records should hold."""

    dns_own_mx_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Host names at which this installation takes mail, comma separated, to compare MX records with."
    )
    dns_spf_include: str = Field("", description="Name that customers' SPF records should include, if any.")
    dns_concurrency: int = Field(20, ge=1, le=500, description="How many domains are looked at at a time.")
    dns_poll_seconds: float = Field(0.5, gt=0, le=60, description="Pause between looks for due domains, with jitter.")
    dns_lease_seconds: float = Field(60.0, ge=5, le=3600, description="How long a claimed domain is kept from others.")
    dns_server_timeout_seconds: float = Field(3.0, gt=0, le=30, description="How long one name server may take.")
    dns_look_timeout_seconds: float = Field(12.0, gt=0, le=60, description="How long one name may take in all.")

    dns_https_port: int = Field(
        443, ge=1, le=65535, description="Port of hosts that serve policies or take reports; another one is for tests."
    )

    dns_report_contact: str = Field(
        "",
        max_length=254,
        description="Mail address that reports about TLS come from, also for questions; empty: none are sent.",
    )
    dns_report_organization: str = Field(
        "", max_length=200, description="Name of the organisation that reports; the contact's domain if empty."
    )
    dns_reports: bool = Field(
        True, description="Whether reports about TLS are sent to domains that ask for them, once there is a contact."
    )

    @field_validator("dns_report_contact")
    @classmethod
    def _check_contact(cls, value: str) -> str:
        if not value:
            return value
        try:
            address = str(parse_address(value))
        except Rejected as error:
            raise ValueError(error.message) from None
        if not address.isascii() or '"' in address:
            raise ValueError("an address in ASCII without quotes is needed")
        return address

    @field_validator("dns_own_mx_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        # A look asks some names at a time, and then the doubled ones, all that SPF leads to, or a host over HTTPS; a
        # result that comes after the lease is dropped.
        if self.dns_lease_seconds <= 2 * self.dns_look_timeout_seconds:
            raise ValueError("POSTERN_DNS_LEASE_SECONDS must be more than twice POSTERN_DNS_LOOK_TIMEOUT_SECONDS")
        return self
