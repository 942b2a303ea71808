"""Settings of the deletion scheduler, beside the common ones."""

from pydantic import Field

from postern_common.settings import CommonSettings


class DeletionSettings(CommonSettings):
    """How often, and how many at a time."""

    deletion_poll_seconds: float = Field(5.0, gt=0, le=3600, description="Pause between sweeps, with jitter.")
    deletion_warn_seconds: float = Field(
        60.0, gt=0, le=3600, description="Pause between looks for deletions to tell of ahead, with jitter."
    )
    deletion_batch: int = Field(100, ge=1, le=10_000, description="Due users that one sweep reads at a time.")
