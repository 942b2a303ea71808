"""How a customer's directory is read: one set of settings a customer."""
