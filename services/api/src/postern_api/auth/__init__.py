"""Who asks: passwords, sessions, tokens, and the limits of sign-in."""
