"""What is said about a harmonised cohort: issues, counts, the quality report and what of it may be shared."""
