"""Directory synchronisation: answers requests for runs of a customer's directory."""
