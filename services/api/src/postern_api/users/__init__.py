"""Users, their addresses, and the flag of deletion."""
