"""The synchronisation agent: reads a directory behind a firewall and sends what changed, outward only (SPEC L4)."""
