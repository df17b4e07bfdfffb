"""From the events of one patient to one row: which value counts, in which state."""
