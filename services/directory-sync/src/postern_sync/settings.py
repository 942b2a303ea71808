"""Settings of directory synchronisation, beside the common ones."""

from pathlib import Path

from pydantic import Field

from postern_common.settings import CommonSettings


class SyncSettings(CommonSettings):
    """How much is done at a time, how often, and for how long a worker may be silent."""

    sync_concurrency: int = Field(4, ge=1, le=64, description="Runs that one process works on at a time.")
    sync_poll_seconds: float = Field(
        1.0, gt=0, le=60, description="Pause between looks for due directories and waiting runs, with jitter."
    )
    sync_lease_seconds: float = Field(
        30.0, ge=5, le=600, description="How long a run stays with a worker that says nothing."
    )
    sync_attempts: int = Field(
        5, ge=1, le=100, description="How often a run is begun before it ends as failed, where workers die of it."
    )
    sync_runs_days: int = Field(
        90, ge=30, le=3650, description="Days that the records of runs are kept; the newest good one stays."
    )
    sync_batch: int = Field(250, ge=1, le=1000, description="Changes that are applied in one transaction.")
    sync_questions: int = Field(
        8, ge=1, le=64, description="Questions to directories (tests of settings) that one process answers at a time."
    )
    sync_question_seconds: float = Field(20.0, gt=0, le=60, description="How long a directory may take for an answer.")
    sync_ldap_seconds: float = Field(
        14_400.0,
        ge=1,
        le=86400,
        description="How long reading a directory over LDAP may take; what was read until then adds and changes users, "
        "and nobody is flagged.",
    )
    sync_scratch_dir: Path | None = Field(
        None, description="Folder of the scratch files of runs, about 2 KiB an entry; empty means the system's own."
    )
    sync_agent_silent_seconds: float = Field(
        180.0, ge=1, le=86400, description="How long a customer's agents may say nothing before a run gives up."
    )
    sync_agent_round_seconds: float = Field(
        7200.0, ge=1, le=86400, description="How long an agent may take for one reading of its directory."
    )
    sync_entra_authority_url: str | None = Field(
        None,
        pattern=r"^https://[^/?#@]+$",
        description="Where Microsoft Entra signs in, instead of the cloud's own address, as `https://host:port`.",
    )
    sync_entra_instance_discovery: bool = Field(
        True, description="Whether Microsoft is asked if the sign-in address is one of theirs, where it is not known."
    )
    sync_graph_url: str | None = Field(
        None,
        pattern=r"^https://[^/?#@]+$",
        description="Where Microsoft Graph is, instead of the cloud's own address, as `https://host:port`.",
    )
    sync_ca_file: Path | None = Field(
        None, description="Certificates of the authorities trusted for the two, as PEM; empty means the usual ones."
    )
