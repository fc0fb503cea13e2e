"""Going on, after a start, with what the journal holds."""
