"""A report as Markdown, which links to its pictures."""

from __future__ import annotations

import re

from ablations import tables
from ablations.report.page import Page
from ablations.report.sections import (
    ONLY_SUMMARY,
    Code,
    Lines,
    Part,
    Pictures,
    Strips,
    Table,
    Text,
    sections,
)
from modernize.text import markdown, visible


def as_markdown(page: Page) -> str:
    """Returns the text; the content of a study's files is escaped."""
    metric = page.metric
    progress = f"{page.progress} Metric: {metric.in_unit}, {page.epoch}; {metric.direction}."
    blocks = [f"# {markdown(page.name)}", markdown(page.about), markdown(progress)]
    blocks += [ONLY_SUMMARY] if page.only_summary else []
    for section in sections(page):
        blocks += [f"## {section.title}", *map(_block, section.parts)]
    return "\n\n".join(blocks) + "\n"


def _block(part: Part) -> str:
    match part:
        case Lines():
            return "\n".join(f"- {markdown(line)}" for line in part.lines)
        case Table():
            rows = tables.as_markdown(part.rows, tables.Columns(numbers=[*part.numbers]))
            return f"{markdown(part.caption)}:\n\n{rows}"
        case Pictures():
            images = "\n".join(f"![{markdown(it.alt)}]({it.path})" for it in part.pictures)
            return f"{images}\n\n{markdown(part.caption)}" if part.caption else images
        case Strips():
            lines = [[f"![{markdown(it.alt)}]({it.path})" for it in row] for row in part.strips]
            head = [[markdown(name) for name in part.columns], ["---"] * len(part.columns)]
            return "\n".join(f"| {' | '.join(line)} |" for line in [*head, *lines])
        case Code():
            title = f"{markdown(part.title)}:\n\n" if part.title else ""
            return title + _code(part.text)
        case Text():
            return "### " * (part.style == "heading") + markdown(part.text)


def _code(text: str) -> str:
    """Returns text in a code block that no line of it can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{visible(text).rstrip()}\n{fence}"
