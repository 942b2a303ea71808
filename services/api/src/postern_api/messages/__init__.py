"""The message trace."""
