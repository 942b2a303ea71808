"""Addresses added by hand that take part in the synchronisation."""
