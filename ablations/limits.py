"""The largest numbers that options and files may give.

Each is far above all use, and far below what would take minutes or gigabytes before it fails.
"""

SEEDS = 1_000  # runs of one step
RUNS = 10_000  # of all steps that are asked for
EPOCHS = 100_000
BATCH = 2**20  # images
IMAGES = 10**9
PIXELS = 8_192  # height and width of an image
PROCESSES = 1_024  # that run or load images beside each other on one machine
ROUNDS = 1_000
SECONDS = 86_400.0
SPEED = 1e9  # images per second
FACTOR = 1_000.0  # learning rates, weight decays and the like
CLUSTER = 1_000_000  # nodes, jobs and the like
MINUTES = 366 * 24 * 60
