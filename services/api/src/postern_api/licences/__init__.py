"""How many users a customer may have, and has."""
