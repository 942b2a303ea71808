"""The drivers of the outside: SMTP to next hops, DNS."""
