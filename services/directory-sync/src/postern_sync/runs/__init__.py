"""The runs of directory synchronisation: their records, who works on them, and for how long."""
