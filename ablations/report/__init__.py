"""The report of a study as one page: HTML and Markdown."""

import ablations.charts  # noqa: F401  # imports matplotlib whatever the user's settings
