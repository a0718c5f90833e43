"""The largest numbers that options and files may have.

Each is far above all practical values, and small enough to fail at once, without using minutes or
gigabytes first.
"""

SEEDS = 1_000  # runs of one step
RUNS = 10_000  # of all requested steps
EPOCHS = 100_000
ITERATIONS = 10**9
BATCH = 2**20  # images
IMAGES = 10**9
PIXELS = 8_192  # height and width of an image
PROCESSES = 1_024  # that train or load images at the same time on one machine
ROUNDS = 1_000
SECONDS = 86_400
SPEED = 10**9  # images per second
FACTOR = 1_000.0  # learning rates, weight decays and the like
CLUSTER = 1_000_000  # nodes, jobs and the like
MINUTES = 366 * 24 * 60
CHART_WIDTHS = (3.0, 20.0)  # inches; in less, the numbers of the roadmap have no room
CHART_DPIS = (50, 1200)
