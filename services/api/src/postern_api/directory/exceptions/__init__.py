"""What the synchronisation leaves out, whatever the filter says."""
