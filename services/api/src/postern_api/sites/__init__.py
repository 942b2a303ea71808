"""Sites: where a customer's mail goes, and the test of the way there."""
