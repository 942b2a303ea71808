"""Directory synchronisation as administrators see it: settings, runs and plans, questions, conflicts (SPEC S)."""
