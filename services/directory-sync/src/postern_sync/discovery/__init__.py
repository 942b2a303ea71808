"""Users found by the mail that their own servers take (SPEC U5)."""
