"""The words that a report has around its numbers, the same in HTML and in Markdown."""

from __future__ import annotations

from ablations.analysis.baselines import PARENT
from ablations.report.page import Page

TITLES = {
    "findings": "What stands out",
    "chart": "The chart",
    "results": "Results",
    "changes": "Changes",
    "curves": "Learning curves",
    "cost": "Accuracy and cost",
    "failed": "What failed",
    "origins": "Where the numbers come from",
    "again": "How to make it again",
}


def captions(page: Page) -> dict[str, str]:
    """Returns what stands beside tables and pictures."""
    interval = "95\N{NO-BREAK SPACE}% interval"
    return {
        "results": f"Each step: top-1 in percent, {page.accuracy}, its mean over n finished runs, "
        f"sample deviation and {interval}; cost of one image; seconds of training a run",
        "changes": f"Each step against {_baseline(page)}, in percentage points",
        "tornado": f"Differences from {page.baseline}, the largest first, each with its {interval} "
        "where there is one.",
        "cost": "Lines: deviation to either side, where there is one. The Pareto front joins the "
        "steps that no other betters at the same cost or less, by their means, which is no test: "
        f"{page.front}. Hollow: side branches. Where there is no room a name is left out.",
        "origins": "What the records say, and how many of them say so",
    }


def _baseline(page: Page) -> str:
    if page.against != PARENT:
        return page.against
    parents = "the one that it builds on"
    elsewhere = any(" (vs " in row["verdict"] for row in page.changes)
    return f"{parents}, or else the nearest before it with finished runs" if elsewhere else parents


def nothing(page: Page) -> dict[str, str]:
    """Returns what stands where there is nothing to show."""
    gone = "Not known: the runs are not kept here."
    return {
        "curves": gone if page.only_summary else "No run has trained an epoch yet.",
        "cost": "This takes two steps with a finished run.",
        "failed": gone if page.only_summary else "No run has failed, diverged or collapsed.",
        "origins": gone if page.only_summary else "There is no record yet.",
    }


def again(page: Page) -> list[str]:
    """Returns what is to be known of the command that makes a study again."""
    if not page.again.command:
        return [
            "This is no study that ships with this version, or it has changed since, so that no "
            "command is known that makes it; study.json has each network in full."
        ]
    lines = ["With the program at the commit named above:"] if page.origins else []
    if page.again.files:
        lines.append(f"Save what stands below as {' and '.join(page.again.files)}.")
    return lines
