"""The outside world: DNS and SMTP servers."""
