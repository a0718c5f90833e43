"""Writes a report as files in the study's folder."""

from __future__ import annotations

from pathlib import Path

from ablations.analysis.baselines import PARENT
from ablations.charts.settings import ChartSettings
from ablations.records import Study, make_folder, write_bytes, write_text
from ablations.report.html import as_html
from ablations.report.markdown import as_markdown
from ablations.report.page import make


def write(
    study: Study,
    *,
    best_epoch: bool,
    baseline: str = PARENT,
    settings: ChartSettings | None = None,
) -> list[Path]:
    """Writes a study's report as HTML and as Markdown, and returns the paths of the two.

    The HTML file contains its pictures; the Markdown file links to the pictures beside it.

    Args:
        study: which one; it may have no finished run.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.
        baseline: of each step, as :func:`~ablations.analysis.comparison.compare` takes it.
        settings: how the pictures look.

    Raises:
        ResultsError: if a file of the study cannot be read, or the report cannot be written.
        UnknownNameError: for an unknown baseline.
        UsageError: for ``best_epoch`` if only a summary of the study is left.
    """
    page = make(study, best_epoch=best_epoch, baseline=baseline, settings=settings)
    for picture in page.pictures:
        path = study.folder / picture.path
        make_folder(path.parent)
        write_bytes(path, picture.content)
    written = [study.folder / "report.html", study.folder / "report.md"]
    write_text(written[0], as_html(page))
    write_text(written[1], as_markdown(page))
    return written
