"""Users from files: the review of a CSV or XLSX file, its application, the export and the samples (SPEC U3)."""
