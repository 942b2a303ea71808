"""The agent's ways to the world."""
