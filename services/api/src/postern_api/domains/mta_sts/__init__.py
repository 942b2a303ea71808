"""MTA-STS policies hosted for domains (SPEC R11, RFC 8461)."""
