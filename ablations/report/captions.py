"""The wording around the numbers of a report, the same in HTML and in Markdown."""

from __future__ import annotations

from ablations.analysis.baselines import PARENT
from ablations.report.page import Page

TITLES = {
    "findings": "Findings",
    "chart": "Chart",
    "results": "Results",
    "changes": "Changes",
    "curves": "Learning curves",
    "cost": "Accuracy and cost",
    "failed": "Failed runs",
    "provenance": "Provenance",
    "reproduction": "Reproduction",
}


def captions(page: Page) -> dict[str, str]:
    """Returns the captions of tables and pictures."""
    interval = "95\N{NO-BREAK SPACE}% interval"
    return {
        "results": f"Top-1 in percent, {page.epoch}: the mean over n finished runs, the sample "
        f"standard deviation (std) and the {interval} of the mean. Cost of one image. Seconds of "
        "training and evaluation per run",
        "changes": f"Each step compared with {_baseline(page)}, in percentage points",
        "tornado": f"Changes of top-1 from {page.tornado_baseline}, the largest first, with their "
        f"{interval}s.",
        "cost": "Bars: one standard deviation to either side. The Pareto front joins the steps "
        "that no other step beats in accuracy at the same or lower cost. It compares means and is "
        f"not a test: {page.front}. Hollow: side branches. Some points have no room for a name.",
        "provenance": "Properties that the records name, and the number of runs with each value",
    }


def _baseline(page: Page) -> str:
    if page.baseline != PARENT:
        return page.baseline
    parent = "the step it builds on"
    elsewhere = any(" (vs " in row["conclusion"] for row in page.changes)
    return f"{parent}, or the nearest one before it with finished runs" if elsewhere else parent


def empty(page: Page) -> dict[str, str]:
    """Returns the sentence of each section that has nothing to show."""
    gone = "Unknown: the runs of this study are not here."
    return {
        "changes": "No step here builds on another.",
        "curves": gone if page.only_summary else "No run has trained an epoch yet.",
        "cost": "This needs two steps with a finished run.",
        "failed": gone if page.only_summary else "No run failed, diverged or collapsed.",
        "provenance": gone if page.only_summary else "No run has a record yet.",
    }


def reproduction_steps(page: Page) -> list[str]:
    """Returns the sentences before the command that reproduces a study."""
    if not page.reproduction.command:
        return [
            "No command for this study is known: it does not come with this version, or has "
            "changed since. study.json describes each network in full."
        ]
    lines = ["With the version of the program that is named above:"] if page.provenance else []
    if page.reproduction.files:
        files = " and ".join(page.reproduction.files)
        lines.append(f"Save the text below the command as {files}.")
    return lines
