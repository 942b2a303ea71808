"""The DNS verifier: proves who owns a domain, and watches the MX and SPF records of proven ones."""
