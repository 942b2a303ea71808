"""From a stored message to the next hop's answer, and what follows from it."""
