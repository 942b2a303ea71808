"""Plans as stored documents."""
