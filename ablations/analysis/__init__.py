"""Statistics on the records of a study: summaries, comparisons and tests."""
