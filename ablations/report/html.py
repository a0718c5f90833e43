"""A report as one HTML file, which needs no other file and no network."""

from __future__ import annotations

import base64
import importlib.metadata
import re
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from ablations.analysis.accuracies import BEST
from ablations.report.page import Page
from ablations.report.sections import ONLY_SUMMARY, sections
from modernize.text import visible

PROSE = ("conclusion", "status", "value")
"""The columns whose cells may be broken into lines."""

_PLAIN = ' !"$()*+,/:;<=>?@[]^_`{|}~-.'
"""Characters of a data URL that need no escape inside single quotes."""

_SEPARATORS = str.maketrans({" ": "%20", ",": "%2C"})
"""Characters that end a URL in a ``srcset``, and their escapes."""


def as_html(page: Page) -> str:
    """Returns the page; the content of a study's files is shown as text, never as markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        page=page,
        only_summary=ONLY_SUMMARY,
        sections=sections(page),
        kind=lambda part: type(part).__name__,
        optimistic=page.epoch == BEST,
        prose=PROSE,
        data_url=_data_url,
        settings=page.settings,
        version=importlib.metadata.version("convnext-roadmap"),
    )


def compact(svg: str) -> str:
    """Returns an SVG of matplotlib in about 60 % of its characters; it looks the same.

    Paths are exact to 0.01 point, and places of letters to 0.5 % of their size. Only names that
    something refers to are kept, and are shortened.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|(?<=>)\s+(?=<)", "", svg, flags=re.DOTALL)
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    names = {name: f"i{number}" for number, name in enumerate(used)}

    def new_id(name: str) -> str:
        return f' id="{names[name]}"' if name in names else ""

    def compact_path(path: re.Match[str]) -> str:
        rounded = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", path[0])
        return re.sub(r" ?([MLQCz]) ?", r"\1", rounded)

    def compact_tag(tag: re.Match[str]) -> str:
        text = re.sub(r"\s+", " ", tag[0])
        text = re.sub(r' id="([^"]+)"', lambda m: new_id(m[1]), text)
        text = re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{names[m[2]]}", text)
        if text.startswith("<use"):
            letter = r'transform="translate\(([\d.]+) 0\)"'
            text = re.sub(letter, lambda m: f'x="{float(m[1]):.0f}"', text)
        return re.sub(r'(?<= d=")[^"]+', compact_path, text)

    return re.sub(r"<[^>]+>", compact_tag, svg)


def _data_url(content: bytes, media_type: str, *, in_list: bool = False) -> Markup:
    """Returns a picture as a URL for an attribute in single quotes.

    An SVG is text, which needs a quarter less than in Base64.
    """
    if media_type != "image/svg+xml":
        encoded = base64.b64encode(content).decode()
        return Markup(f"data:{media_type};base64,{encoded}")  # noqa: S704
    url = quote(compact(content.decode()), safe=_PLAIN)
    if in_list:
        url = url.translate(_SEPARATORS)
    return Markup(f"data:{media_type},{url}")  # noqa: S704
