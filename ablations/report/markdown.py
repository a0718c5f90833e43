"""A report as Markdown, which links to its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ablations import tables
from ablations.report import captions
from ablations.report.data import FailedRun
from ablations.report.page import NUMBERS, Page, Rows
from ablations.report.pictures import Picture
from modernize.text import markdown, visible


def as_markdown(page: Page) -> str:
    """Returns the text; the content of a study's files is escaped."""
    return "\n\n".join(_parts(page)) + "\n"


def _parts(page: Page) -> Iterator[str]:
    caption, empty = captions.captions(page), captions.empty(page)
    titles = {key: f"## {title}" for key, title in captions.TITLES.items()}
    yield f"# {markdown(page.name)}"
    yield markdown(page.about)
    yield markdown(f"{page.progress} Accuracies: top-1 in percent, {page.epoch}.")
    if page.only_summary:
        yield "Only the description of this study and its `summary.csv` are here."
    yield titles["findings"]
    yield _list(page.findings)
    yield titles["chart"]
    yield _image(page.chart)
    yield titles["results"]
    yield from _table(page.results, caption["results"])
    yield titles["changes"]
    if page.changes:
        yield from _table(page.changes, caption["changes"])
    else:
        yield empty["changes"]
    if page.tornado:
        yield f"{_image(page.tornado)}\n\n{markdown(caption['tornado'])}"
    if page.how_to_read:
        yield _list(page.how_to_read)
    yield titles["curves"]
    if page.curves:
        yield markdown(page.curves_note)
    yield "\n".join(map(_image, page.curves)) or empty["curves"]
    yield titles["cost"]
    yield "\n".join(map(_image, page.costs)) or empty["cost"]
    if page.costs:
        yield markdown(caption["cost"])
    yield titles["failed"]
    yield from _failed(page, empty["failed"])
    yield titles["provenance"]
    if page.provenance:
        yield from _table(page.provenance, caption["provenance"])
    else:
        yield empty["provenance"]
    yield titles["reproduction"]
    yield from map(markdown, captions.reproduction_steps(page))
    if page.reproduction.command:
        yield _block(page.reproduction.command)
    for name, content in page.reproduction.files.items():
        yield f"{markdown(name)}:"
        yield _block(content)
    yield "The preset, with all settings:"
    yield _block(page.reproduction.preset)


def _failed(page: Page, empty: str) -> Iterator[str]:
    if page.unfinished:
        yield f"Not ended yet: {page.unfinished}."
    if not page.failed_runs:
        yield empty
    for failed_run in page.failed_runs:
        yield from _failed_run(failed_run)
    if more := page.failed_count - len(page.failed_runs):
        yield f"And {more:,} more; their records and logs are in runs/."


def _failed_run(failed_run: FailedRun) -> Iterator[str]:
    yield f"### {markdown(failed_run.step)}, seed {failed_run.seed}: {failed_run.status}"
    yield _block(failed_run.reason or "no reason recorded")
    if failed_run.log:
        yield "The end of its log:"
        yield _block(failed_run.log)


def _table(rows: Rows, caption: str) -> Iterator[str]:
    yield f"{markdown(caption)}:"
    yield tables.as_markdown(rows, tables.Columns(numbers=NUMBERS))


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {markdown(line)}" for line in lines)


def _image(picture: Picture) -> str:
    return f"![{markdown(picture.alt)}]({picture.path})"


def _block(text: str) -> str:
    """Returns text in a code block that no line of it can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{visible(text).rstrip()}\n{fence}"
