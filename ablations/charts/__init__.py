"""Summaries as pictures: the roadmap, and accuracy against throughput."""
