"""Charts: the roadmap, and accuracy against throughput."""

from ablations.charts.import_matplotlib import import_matplotlib

import_matplotlib()  # before any module of this package does
