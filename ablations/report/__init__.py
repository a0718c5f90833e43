"""A study as one page: HTML and Markdown."""
