"""A report as Markdown, with its pictures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ablations import tables
from ablations.report import page_text
from ablations.report.data import Trouble
from ablations.report.page import NUMBERS, Page, Rows
from ablations.report.page_pictures import Picture
from modernize.text import markdown, visible

PICTURES = "report"
"""The folder of the pictures, in the study's."""


def as_markdown(page: Page) -> str:
    """Returns the text; what a study's files say is escaped, so that it is shown as it is."""
    return "\n\n".join(_parts(page)) + "\n"


def pictures(page: Page) -> list[Picture]:
    """Returns the pictures that the text shows."""
    first = [page.chart, *([page.tornado] if page.tornado else [])]
    return [*first, *page.curves, *page.costs]


def _parts(page: Page) -> Iterator[str]:
    captions, nothing = page_text.captions(page), page_text.nothing(page)
    titles = {key: f"## {title}" for key, title in page_text.TITLES.items()}
    yield f"# {markdown(page.name)}"
    yield markdown(page.about)
    yield markdown(f"{page.state} Accuracies are top-1 in percent, {page.accuracy}.")
    if page.only_summary:
        yield "Of this study only its description and `summary.csv` are kept here."
    yield titles["findings"]
    yield "\n".join(f"- {markdown(line)}" for line in page.findings)
    yield titles["chart"]
    yield _image(page.chart)
    yield titles["results"]
    yield from _table(page.results, captions["results"])
    yield titles["changes"]
    if page.changes:
        yield from _table(page.changes, captions["changes"])
    else:
        yield "No step here builds on another."
    if page.tornado:
        yield f"{_image(page.tornado)}\n\n{markdown(captions['tornado'])}"
    if page.reading:
        yield "\n".join(f"- {markdown(line)}" for line in page.reading)
    yield titles["curves"]
    if page.curves:
        yield markdown(page.curves_note)
    yield "\n".join(map(_image, page.curves)) or nothing["curves"]
    yield titles["cost"]
    yield "\n".join(map(_image, page.costs)) or nothing["cost"]
    if page.costs:
        yield markdown(captions["cost"])
    yield titles["failed"]
    yield from _failed(page, nothing["failed"])
    yield titles["origins"]
    if page.origins:
        yield from _table(page.origins, captions["origins"])
    else:
        yield nothing["origins"]
    yield titles["again"]
    yield from map(markdown, page_text.again(page))
    if page.again.command:
        yield _block(page.again.command)
    for name, content in page.again.files.items():
        yield f"{markdown(name)}:"
        yield _block(content)
    yield "The preset, with all settings:"
    yield _block(page.again.preset)


def _failed(page: Page, nothing: str) -> Iterator[str]:
    if page.unfinished:
        yield f"Not ended: {page.unfinished}."
    if not page.troubles:
        yield nothing
    for trouble in page.troubles:
        yield from _trouble(trouble)
    if more := page.trouble_count - len(page.troubles):
        yield f"And {more:,} more; their records and logs are in runs/."


def _trouble(trouble: Trouble) -> Iterator[str]:
    yield f"### {markdown(trouble.step)}, seed {trouble.seed}: {trouble.state}"
    yield _block(trouble.reason or "no reason recorded")
    if trouble.log:
        yield "The end of its log:"
        yield _block(trouble.log)


def _table(rows: Rows, caption: str) -> Iterator[str]:
    yield f"{markdown(caption)}:"
    yield tables.as_markdown(rows, tables.Columns(numbers=NUMBERS))


def _image(picture: Picture) -> str:
    return f"![{markdown(picture.alt)}]({PICTURES}/{picture.name}.svg)"


def _block(text: str) -> str:
    """Returns text in a fence that nothing in it can close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{visible(text).rstrip()}\n{fence}"
