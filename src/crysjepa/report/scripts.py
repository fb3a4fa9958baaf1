"""The scripts that a page carries, and the policy that lets a browser run these and nothing else.

A script stands in the page itself, so that a page that is mailed or opened from a folder is whole. The policy
names each by the hash of its text; there is no ``unsafe-inline`` and no ``unsafe-eval`` for scripts. What
comes from a run is in the markup as escaped text and in JSON that the browser does not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from markupsafe import Markup

VIEWER = "3Dmol-min.js"
"""3Dmol.js (https://3dmol.csb.pitt.edu): ``build/3Dmol-min.js`` of ``npm pack 3dmol@2.5.5``, unchanged.
Its one ``eval`` serves an attribute that no page here has, and the policy forbids it."""
OWN = "page.js"


@dataclass(frozen=True)
class Script:
    """The text of a script, as it stands in the page."""

    text: Markup

    @property
    def source(self) -> str:
        """What the policy calls it."""
        digest = hashlib.sha256(str(self.text).encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"


def shipped(name: str) -> str:
    """A file of ``report/templates``."""
    return (resources.files("crysjepa.report") / "templates" / name).read_text(encoding="utf-8")


@lru_cache
def script(name: str) -> Script:
    """A script that ships. Raises ValueError for one that would end its own element in HTML."""
    text = shipped(name)
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError(f"{name} cannot stand inside HTML: it holds </script or <!--")
    return Script(Markup(text))


def policy(scripts: Sequence[Script]) -> str:
    """The page's Content-Security-Policy.

    Nothing is fetched, framed or sent. Styles are inline: the figures' attributes are. Pictures may be data:
    the maps have points as an image inside the SVG. Scripts are those given, by their hashes.
    """
    parts = ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"]
    if scripts:
        parts.append(f"script-src {' '.join(s.source for s in scripts)}")
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])
