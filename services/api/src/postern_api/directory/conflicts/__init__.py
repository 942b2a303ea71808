"""Users that synced before and are gone from the directory."""
