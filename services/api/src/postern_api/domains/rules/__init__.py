"""What is decided about domains. All pure."""
