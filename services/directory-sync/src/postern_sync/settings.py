"""Settings of directory synchronisation: the common ones suffice."""

from postern_common.settings import CommonSettings


class SyncSettings(CommonSettings):
    """Nothing beyond what every service needs."""
