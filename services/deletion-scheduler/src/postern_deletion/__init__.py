"""The deletion scheduler: removes flagged users when their delay ends, each exactly once."""
