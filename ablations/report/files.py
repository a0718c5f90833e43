"""A report as files in the study's folder."""

from __future__ import annotations

from pathlib import Path

from ablations.analysis.baselines import PARENT
from ablations.records import Study, make_folder, write_bytes, write_text
from ablations.report import page_markdown
from ablations.report.page import make
from ablations.report.page_html import as_html


def write(study: Study, *, best_epoch: bool, against: str = PARENT) -> list[Path]:
    """Writes a study's report as HTML and as Markdown, and returns the files.

    Args:
        study: which one; nothing need have finished.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.
        against: what each step is compared with, as ``compare`` takes it.

    Raises:
        ResultsError: where its files cannot be read, or the report cannot be written.
        UnknownNameError: for an unknown ``against``.
        UsageError: for ``best_epoch`` of a study of which only a summary is kept.
    """
    page = make(study, best_epoch=best_epoch, against=against)
    written = [study.folder / "report.html", study.folder / "report.md"]
    folder = study.folder / page_markdown.PICTURES
    make_folder(folder)
    for picture in page_markdown.pictures(page):
        write_bytes(folder / f"{picture.name}.svg", picture.svg)
    write_text(written[0], as_html(page))
    write_text(written[1], page_markdown.as_markdown(page))
    return written
