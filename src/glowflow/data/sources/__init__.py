"""Where images come from, one source or layout a file."""
