"""Templates to HTML. Everything is escaped unless a template says otherwise, and none does."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from farm.web import cards, spending, trainings, views
from pipeline import __version__

HERE = Path(__file__).parent
STATIC = HERE / "static"

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""No inline script or style, nothing from elsewhere, in nobody's frame."""

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def breakable(text: str) -> Markup:
    """A name or path that a browser may break behind its own joints, rather than anywhere or nowhere."""
    return Markup(re.sub(r"(?<=[/_.])(?=[^/_.])", "<wbr>", str(escape(text))))  # noqa: S704 - escaped on this line


_ENVIRONMENT.filters["breakable"] = breakable
_ENVIRONMENT.filters["duration"] = views.duration
_ENVIRONMENT.filters["frames_text"] = views.frames_text
_ENVIRONMENT.filters["hours"] = spending.hours
_ENVIRONMENT.filters["money"] = spending.money
_ENVIRONMENT.filters["promotion_reason"] = cards.promotion_reason
_ENVIRONMENT.filters["accuracy_words"] = spending.accuracy_words
_ENVIRONMENT.globals["badges"] = trainings.KIND_WORDS
_ENVIRONMENT.globals["product_version"] = __version__


def render(template: str, /, **values: Any) -> str:
    """A template of `farm/web/templates` as HTML."""
    return _ENVIRONMENT.get_template(template).render(**values)


_DOOR_STYLE = (HERE / "templates" / "door.css").read_text(encoding="utf-8")
_DOOR_HASH = base64.b64encode(hashlib.sha256(_DOOR_STYLE.encode()).digest()).decode()
DOOR_POLICY = f"default-src 'none'; style-src 'sha256-{_DOOR_HASH}'; base-uri 'none'; frame-ancestors 'none'"
"""For the page at the closed door: it may load nothing, because whoever sees it may not either."""


def door(title: str, message: str, hint: str = "") -> str:
    """The page of whoever isn't let in: it stands on its own, since no style sheet is served without a token."""
    return render("door.html", style=_DOOR_STYLE, title=title, message=message, hint=hint)
