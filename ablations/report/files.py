"""A report as files in the study's folder."""

from __future__ import annotations

from pathlib import Path

from ablations.records import ResultsError, Study
from ablations.report import page_markdown
from ablations.report.page import make
from ablations.report.page_html import as_html


def write(study: Study, *, best_epoch: bool) -> list[Path]:
    """Writes a study's report as HTML and as Markdown, and returns the files.

    Args:
        study: which one; nothing need have finished.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.

    Raises:
        ResultsError: where its files cannot be read, or the report cannot be written.
        UsageError: for ``best_epoch`` of a study of which only a summary is kept.
    """
    page = make(study, best_epoch=best_epoch)
    written = [study.folder / "report.html", study.folder / "report.md"]
    folder = study.folder / page_markdown.PICTURES
    try:
        folder.mkdir(exist_ok=True)
        for picture in page_markdown.pictures(page):
            (folder / f"{picture.name}.svg").write_bytes(picture.svg)
        written[0].write_text(as_html(page), encoding="utf-8")
        written[1].write_text(page_markdown.as_markdown(page), encoding="utf-8")
    except OSError as error:
        raise ResultsError(
            f"cannot write {error.filename}: {error.strerror}. Make room or give rights there."
        ) from error
    return written
