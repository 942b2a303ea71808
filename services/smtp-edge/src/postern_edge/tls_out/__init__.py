"""TLS towards receiving domains: what they want, what came of it, and the record of that (SPEC R11)."""
