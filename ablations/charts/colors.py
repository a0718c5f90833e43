"""The colours of sections, which are the same in every chart."""

from __future__ import annotations

from collections.abc import Iterable

from modernize.steps import STEPS

# For the sections in order. Neighbours differ in hue and in lightness, also for readers with
# colour blindness and in print.
HUES = ("#4a5f7f", "#6fa3c8", "#2f7f86", "#8fb98a", "#8a6d24", "#cf8558", "#8c4a5c",
        "#b59fc4")  # fmt: skip


def section_hues(shown: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
    """Returns section -> its colour.

    Args:
        shown: the sections of a chart.
        known: all possible sections of a study, in order; those of the roadmap come first.
    """
    order = list(dict.fromkeys([*(step.section for step in STEPS), *known, *shown]))
    return {section: HUES[order.index(section) % len(HUES)] for section in order}
