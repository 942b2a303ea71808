"""LDAP directories: how they are reached, read and tested. Nothing is ever written to one."""
