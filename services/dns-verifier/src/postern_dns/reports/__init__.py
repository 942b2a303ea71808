"""Reports about TLS to the domains that ask for them (SPEC R11, RFC 8460)."""
