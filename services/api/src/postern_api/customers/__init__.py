"""Customers, the tenants."""
