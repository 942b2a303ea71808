"""Agents that read a directory behind a firewall and send what they read (SPEC L4)."""
