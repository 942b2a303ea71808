"""Bodies of a directory's settings. Secrets go in and never come out."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints

from postern_api.http.schemas import EXAMPLE_TIME, Input, Output, Time, one_line
from postern_common.directory_documents import Provider

EXAMPLE_ID: Final = "dir_0192f0c1a8b47c3e9d215b7f10aa3c65"
EXAMPLE_GUID: Final = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000), AfterValidator(one_line)]
Host = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255), AfterValidator(one_line)]
Filter = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000)]
Pem = Annotated[str, StringConstraints(max_length=65536)]
Hours = Literal[6, 12, 24, 72, 168]


class GuardFields(BaseModel):
    """How much one run may take away by itself."""

    mode: Literal["count", "percent", "both", "off"] = Field(
        "both", description="Which limits hold; `off` is for a directory that is being emptied.", examples=["both"]
    )
    max_count: int = Field(
        500, ge=0, le=10_000_000, strict=True, description="Users that one run may flag.", examples=[500]
    )
    max_percent: float = Field(
        5.0, ge=0, le=100, allow_inf_nan=False, examples=[5.0],
        description="Share of the directory's active users here that one run may flag, and of its aliases that it may "
        "drop; of memberships a quarter may end, or this share where it is more.",
    )  # fmt: skip
    min_floor: int = Field(
        5, ge=0, le=10_000, strict=True, description="So many of each may always go, whatever the share.", examples=[5]
    )
    max_aliases: int = Field(
        1000,
        ge=0,
        le=10_000_000,
        strict=True,
        description="Secondary addresses that one run may drop.",
        examples=[1000],
    )
    max_members: int = Field(
        5000, ge=0, le=10_000_000, strict=True, description="Memberships that one run may end.", examples=[5000]
    )


class GuardInput(GuardFields, Input):
    """How much one run may take away by itself; what is more is held for approval."""


class Guard(GuardFields, Output):
    """How much one run may take away by itself; what is more is held for approval."""


class LdapFields(BaseModel):
    """How an LDAP directory is reached and read."""

    connection: Literal["direct", "agent"] = Field(
        "direct", description="Who reads: Postern itself, or an agent beside the directory.", examples=["direct"]
    )
    preset: Literal["ad", "samba", "openldap", "389ds", "freeipa"] = Field(
        "ad", description="What kind of directory it is.", examples=["ad"]
    )
    host: Host = Field("", description="The server; an agent may need none here.", examples=["dc1.example.com"])
    port: int | None = Field(
        None, ge=1, le=65535, strict=True, examples=[636],
        description="The port; null is 636 for `ldaps` and 389 otherwise.",
    )  # fmt: skip
    second_host: Host | None = Field(None, description="Asked where the first does not answer.", examples=[None])
    security: Literal["ldaps", "starttls", "none"] = Field(
        "ldaps", description="`none` sends the password in clear.", examples=["ldaps"]
    )
    verify_certificate: bool = Field(
        True, strict=True, description="Whether the server's certificate is judged at all.", examples=[True]
    )
    ca_certificates: Pem | None = Field(
        None, description="Authorities to trust, as PEM; null is those of the system.", examples=[None]
    )
    fingerprint: Text | None = Field(
        None,
        description="SHA-256 of the server's certificate, in hexadecimal: this one is trusted, and no other.",
        examples=[None],
    )
    user: Text = Field(
        "", description="Who signs in: a DN, or name@domain. Empty reads anonymously.",
        examples=["CN=Postern,OU=Services,DC=example,DC=com"],
    )  # fmt: skip
    base_dn: Text = Field("", description="Where reading begins.", examples=["DC=example,DC=com"])
    user_filter: Filter = Field(
        "", description="Which users, as an LDAP filter (RFC 4515); empty is all.", examples=["(department=Sales)"]
    )
    group_filter: Filter = Field("", description="Which groups, as an LDAP filter; empty is all.", examples=[""])
    attributes: dict[str, str] = Field(
        {}, max_length=50, examples=[{"notes": "info"}],
        description="Names of attributes that differ from the preset: ours to the directory's.",
    )  # fmt: skip
    primary_from_upn: bool = Field(
        False, strict=True, description="Whether a user without mail goes by the sign-in name.", examples=[False]
    )
    page_size: int = Field(500, ge=10, le=1000, strict=True, description="Entries asked for at once.", examples=[500])


class LdapInput(LdapFields, Input):
    """An LDAP directory to read."""

    password: SecretStr | None = Field(
        None, max_length=1000, examples=["not-a-real-password"],
        description="Left out, the stored one stays while servers, port and user are the same; null removes it. None "
        "is kept where an agent reads.",
    )  # fmt: skip


class Ldap(LdapFields, Output):
    """An LDAP directory, as it is read."""

    password_set: bool = Field(description="Whether there is a password.", examples=[True])


class EntraFields(BaseModel):
    """How a Microsoft Entra tenant is read."""

    tenant: Text = Field(
        min_length=1, description="Directory (tenant) id, or one of its domains.", examples=["example.onmicrosoft.com"]
    )
    client_id: Text = Field(
        min_length=1, description="Application (client) id of the registration.", examples=[EXAMPLE_GUID]
    )
    credential_expires_at: Time | None = Field(
        None, examples=[EXAMPLE_TIME],
        description="When the secret ends, as Microsoft shows it; a certificate tells by itself.",
    )  # fmt: skip
    cloud: Literal["public", "usgov", "usgov_dod", "china"] = Field(
        "public", description="Which of Microsoft's clouds.", examples=["public"]
    )
    user_filter: Filter = Field(
        "", description="Which users, as a Graph `$filter`; empty is all.", examples=["department eq 'Sales'"]
    )


class EntraInput(EntraFields, Input):
    """A Microsoft Entra tenant to read."""

    client_secret: SecretStr | None = Field(
        None, max_length=1000, examples=["not-a-real-secret"],
        description="Left out, the stored one stays while tenant, application and cloud are the same; null removes it.",
    )  # fmt: skip
    client_certificate: SecretStr | None = Field(
        None, max_length=65536, examples=[None],
        description="Instead of a secret: certificate and private key as PEM; kept and removed as the secret is.",
    )  # fmt: skip


class Entra(EntraFields, Output):
    """A Microsoft Entra tenant, as it is read."""

    client_secret_set: bool = Field(description="Whether there is a secret.", examples=[True])
    client_certificate_set: bool = Field(description="Whether there is a certificate.", examples=[False])


class DirectoryFields(BaseModel):
    """What does not depend on the provider."""

    provider: Provider = Field(description="Which directory is the source of users.", examples=["ldap"])
    enabled: bool = Field(
        True, strict=True, description="False keeps all users; those flagged go when their delay ends.", examples=[True]
    )
    interval_hours: Hours = Field(6, description="How often it is synchronised.", examples=[6])
    include_disabled: bool = Field(False, strict=True, description="Whether disabled accounts sync.", examples=[False])
    include_public_folders: bool = Field(
        False, strict=True, description="Whether public folders with an address sync.", examples=[False]
    )
    include_hidden: bool = Field(
        True, strict=True, description="Whether those hidden from address lists sync.", examples=[True]
    )
    absent_runs: int = Field(
        1, ge=1, le=10, strict=True, examples=[1],
        description="Complete runs in a row that must miss a user before they are flagged.",
    )  # fmt: skip
    freeze_on_disable: bool = Field(
        False,
        strict=True,
        description="Whether nobody flagged is deleted while this is switched off. Left out of settings that stay "
        "switched off, what is frozen stays so.",
        examples=[False],
    )


class DirectoryInput(DirectoryFields, Input):
    """Settings of synchronisation as a whole. The other provider's settings stay unless they are sent too."""

    guard: GuardInput = Field(GuardInput(), description="The guard.", examples=[{"mode": "both", "max_count": 500}])
    ldap: LdapInput | None = Field(
        None, description="For LDAP; null removes what is stored.",
        examples=[{"host": "dc1.example.com", "user": "postern@example.com", "base_dn": "DC=example,DC=com"}],
    )  # fmt: skip
    entra: EntraInput | None = Field(
        None, description="For Microsoft Entra ID; null removes what is stored.",
        examples=[{"tenant": "example.onmicrosoft.com", "client_id": EXAMPLE_GUID}],
    )  # fmt: skip


class LastGood(Output):
    """The last run that read the directory whole."""

    run_id: str = Field(description="The run.", examples=["run_0192f0c1a8b47c3e9d215b7f10aa3c59"])
    at: datetime = Field(description="When.", examples=[EXAMPLE_TIME])
    users: int = Field(description="Users that the directory had.", examples=[250])
    groups: int = Field(description="Groups that it had.", examples=[20])


class Directory(DirectoryFields, Output):
    """How a customer's users are synchronised."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    frozen: bool = Field(description="Whether deletions of flagged users wait.", examples=[False])
    guard: Guard = Field(description="The guard.")
    ldap: Ldap | None = Field(description="LDAP, where it was set up.")
    entra: Entra | None = Field(description="Microsoft Entra ID, where it was set up.")
    deletion_delay_days: int | None = Field(
        description="Days from flag to deletion, set at the customer; null is never.", examples=[7]
    )
    next_run_at: datetime | None = Field(description="When it runs next by itself.", examples=[EXAMPLE_TIME])
    last_run_id: str | None = Field(description="The last run.", examples=["run_0192f0c1a8b47c3e9d215b7f10aa3c59"])
    waiting_run_id: str | None = Field(
        description="The run whose plan waits to be approved or rejected; null where none does.", examples=[None]
    )
    last_good: LastGood | None = Field(description="The last run that read the directory whole.")
    warnings: list[str] = Field(
        description="What is risky about these settings.",
        examples=[["The password crosses the network in clear: use ldaps or starttls."]],
    )
    created_at: datetime = Field(description="When it was set up.", examples=[EXAMPLE_TIME])
    updated_at: datetime = Field(description="When it was changed last.", examples=[EXAMPLE_TIME])


def to_directory(document: Any, deletion_delay_days: int | None, waiting_run_id: str | None) -> Directory:
    """The answer for stored settings."""
    ldap, entra, last = document["ldap"], document["entra"], document["last_good"]
    own = ("frozen", "last_run_id", "created_at", "updated_at")
    return Directory(
        id=document["_id"],
        guard=Guard(**document["guard"]),
        ldap=None if ldap is None else _to_ldap(ldap),
        entra=None if entra is None else _to_entra(entra),
        deletion_delay_days=deletion_delay_days,
        waiting_run_id=waiting_run_id,
        next_run_at=document["next_run_at"] if document["enabled"] else None,
        last_good=None if last is None else LastGood(**{name: last[name] for name in LastGood.model_fields}),
        warnings=warnings_of(document),
        **{name: document[name] for name in (*DirectoryFields.model_fields, *own)},
    )


def _to_ldap(stored: Any) -> Ldap:
    fields = {name: stored[name] for name in LdapFields.model_fields}
    return Ldap(password_set=stored["password"] is not None, **fields)


def _to_entra(stored: Any) -> Entra:
    fields = {name: stored[name] for name in EntraFields.model_fields}
    return Entra(
        client_secret_set=stored["client_secret"] is not None,
        client_certificate_set=stored["client_certificate"] is not None,
        **fields,
    )


def warnings_of(document: Any) -> list[str]:
    """What is risky about stored settings, for people."""
    found = []
    ldap = document["ldap"]
    if document["provider"] == "ldap" and ldap is not None and ldap["connection"] == "direct":
        if ldap["security"] == "none":
            found.append("The password and all that is read cross the network in clear: use ldaps or starttls.")
        elif not ldap["verify_certificate"]:
            found.append("Whoever stands between can read the password: have the certificate verified.")
    if document["guard"]["mode"] == "off":
        found.append("The guard is off: one run may flag any number of users.")
    return found
