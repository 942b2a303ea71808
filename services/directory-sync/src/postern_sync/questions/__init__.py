"""Questions that the api puts to a directory."""
