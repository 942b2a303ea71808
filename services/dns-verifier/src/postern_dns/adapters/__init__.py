"""The network side of the DNS verifier."""
