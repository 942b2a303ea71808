"""The signed-in principal's own things."""
