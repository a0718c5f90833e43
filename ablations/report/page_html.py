"""A report as one HTML file, which asks nothing of any other file or network."""

from __future__ import annotations

import base64
import importlib.metadata
from pathlib import Path

import jinja2

from ablations.analysis.samples import BEST
from ablations.report import page_text
from ablations.report.page import NUMBERS, Page
from ablations.report.page_pictures import Picture
from modernize.text import visible

PROSE = ("verdict", "status", "value")
"""The columns whose cells may break into lines."""


def as_html(page: Page) -> str:
    """Returns the page; whatever a study's files say is shown as text, never as markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        page=page,
        sections=page_text.TITLES.items(),
        titles=page_text.TITLES,
        captions=page_text.captions(page),
        nothing=page_text.nothing(page),
        again=page_text.again(page),
        optimistic=page.accuracy == BEST,
        numbers=NUMBERS,
        prose=PROSE,
        data_uri=_data_uri,
        version=importlib.metadata.version("convnext-roadmap"),
    )


def _data_uri(picture: Picture) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.svg).decode()}"
