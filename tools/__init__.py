"""Programs that look after the repository: proofs of the rules, checks that no linter knows, generated documents."""
