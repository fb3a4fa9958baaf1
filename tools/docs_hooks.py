"""Links of the documentation that leave ``docs/``, for mkdocs.

The pages are read in the repository too, and link to its source files. On the site such a link leads into the
repository, where ``repo_url`` says what its address is; else the file's path stands there as code.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s]+)\)")
"""A link of Markdown, in one line or broken in its text; a picture is none."""
ROLE = re.compile(r":(?:py:)?(?:attr|class|data|exc|func|meth|mod|ref):(?P<code><code>|`)~?")
"""What Sphinx puts before a name in a docstring, with the tilde that shortens it."""


def leaving(target: str, page: str, docs: Path) -> str | None:
    """The path in the repository of what a link of a page leads to, None where that is a file of the site.

    Parameters
    ----------
    target
        As it stands in the link.
    page
        The page's path in ``docs``, such as ``reference/python.md``.
    docs
        The folder of the pages, in the repository's root.
    """
    path = target.partition("#")[0]
    if not path or path.startswith("/") or re.match(r"[a-z][a-z0-9+.-]*:", path):
        return None
    inside = posixpath.normpath(posixpath.join(docs.name, posixpath.dirname(page), path))
    stays = inside.startswith(f"{docs.name}/") and not (docs.parent / inside).is_dir()
    return None if stays else inside


def rewritten(markdown: str, page: str, docs: Path, repo_url: str | None) -> str:
    """A page with every link that leaves the site turned into one into the repository, or into code.

    Raises ValueError for a link to what is not there.
    """

    def replace(link: re.Match[str]) -> str:
        path = leaving(link["target"], page, docs)
        if path is None:
            return link[0]
        there = docs.parent / path
        if path.startswith("../") or not there.exists():
            raise ValueError(f"{page} links to {link['target']}, which is not there")
        if not repo_url:
            return f"{link['text']} (`{path}`)" if link["text"].strip("`") != path else f"`{path}`"
        kind = "tree" if there.is_dir() else "blob"
        anchor = "".join(link["target"].partition("#")[1:])
        return f"[{link['text']}]({repo_url.rstrip('/')}/{kind}/HEAD/{path}{anchor})"

    return LINK.sub(replace, markdown)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """What mkdocs calls for every page before it makes HTML of it."""
    return rewritten(markdown, page.file.src_uri, Path(config.docs_dir), config.repo_url)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """What mkdocs calls for every page's HTML: roles of Sphinx that docstrings have are left out."""
    return ROLE.sub(r"\g<code>", html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """What mkdocs calls for every page as it is written: the theme asks no host how many stars there are."""
    return output.replace(' data-md-component="source"', "")
