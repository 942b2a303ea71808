"""The mirror of directories whose changes are read: its store, and the changes of a reading laid over it."""
