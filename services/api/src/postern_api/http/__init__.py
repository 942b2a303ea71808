"""What every route shares: problems, pages, idempotency, ETags, the document and its page."""
