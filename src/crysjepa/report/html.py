"""How pages are made from templates: escaped text, the filters of the templates, links to known crystals."""

from __future__ import annotations

import re
from functools import lru_cache

import jinja2
from markupsafe import Markup, escape

from crysjepa.report.results import real
from crysjepa.report.scripts import policy
from crysjepa.report.wording import breakable, formula, number, percent, significant, space_group

_MATERIALS_PROJECT = "https://materialsproject.org/materials/"


@lru_cache(maxsize=1)
def page_environment() -> jinja2.Environment:
    """How every page is made: what it is given is text, and what it is not given is an error.

    One for all pages: a template is compiled once.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("crysjepa.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.globals["policy"] = policy
    environment.filters |= {
        "number": number,
        "percent": percent,
        "significant": significant,
        "formula": formula,
        "space_group": space_group,
        "breakable": breakable,
        "known_id": known_id,
        "count": lambda n: f"{n:,}",
        "whole": lambda n: number(real(n), 0),
        "reprefix": _reprefix,
    }
    return environment


def known_id(text: str) -> Markup:
    """An id of the Materials Project as a link to its page, any other text as it is.

    The link is followed by the reader alone: nothing leaves the page by itself, and not where it lies either.
    """
    if not re.fullmatch(r"mp-[0-9]{1,12}", text):
        return escape(text)
    return Markup('<a href="{0}{1}" rel="noreferrer noopener">{1}</a>').format(_MATERIALS_PROJECT, text)


def _reprefix(picture: Markup, copy: int) -> Markup:
    """A picture shown a second time, under ids of its own."""
    return Markup(re.sub(r'(id="|url\(#)(c\d+-)', rf"\g<1>s{copy}\g<2>", str(picture)))
