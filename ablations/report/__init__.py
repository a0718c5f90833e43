"""A study as one page: HTML and Markdown."""

import ablations.charts  # noqa: F401  # imports matplotlib, whatever its user has set
