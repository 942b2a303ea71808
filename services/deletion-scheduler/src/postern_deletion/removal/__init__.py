"""What removed customers leave behind (SPEC T9)."""
