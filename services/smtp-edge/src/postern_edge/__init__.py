"""Postern's SMTP edge: the listener that takes mail, the spool that keeps it, and the delivery that hands it on."""
