"""Postern's HTTP API: the one place where people and scripts change a tenant's settings and read its trace."""
