"""
Files of the repository on the site: a link to one leads to a page that shows it, and to a folder, to a list of it.

A page of the documentation may link to anything in the repository by its relative path, as it does on a forge. Sphinx
would copy a file behind a hash, and knows nothing of folders. Nothing is fetched, and nothing outside of the
repository is shown.
"""

from __future__ import annotations

import html
import posixpath
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

FOLDER = "files"
"""Where these pages are on the site."""

LEFT_OUT = {"__pycache__", "node_modules"}
"""What tools leave in folders."""

SHOWN = "files_of_the_repository"
"""The attribute of the environment that holds, for each page, the paths that it links to."""


class Links(SphinxTransform):
    """Turns links to files and folders of the repository that are no pages into links to their pages."""

    default_priority = 5  # before Sphinx copies what is to be downloaded

    def apply(self, **_: Any) -> None:
        """Change this document."""
        root = Path(self.env.srcdir).resolve().parent
        here = Path(self.env.doc2path(self.env.docname)).parent
        for kind in (addnodes.download_reference, addnodes.pending_xref):
            for node in list(self.document.findall(kind)):
                path = _target(node, here, Path(self.env.srcdir))
                if path is None or not path.is_relative_to(root):
                    continue
                shown = path.relative_to(root).as_posix()
                getattr(self.env, SHOWN).setdefault(self.env.docname, set()).add(shown)
                uri = posixpath.relpath(_page(shown) + ".html", posixpath.dirname(self.env.docname) or ".")
                node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))


def _target(node: nodes.Element, here: Path, source: Path) -> Path | None:
    """Give the file or folder that *node* names; None for pages and whatever else it may be."""
    named = str(node.get("reftarget", "")).partition("#")[0]
    if not named or node.get("reftype") != "myst":
        return None
    if node.get("refdomain") == "doc":  # Markdown: a page of ours, or of the repository, without its suffix
        path = (source / (named + ".md")).resolve()
        return None if path.is_relative_to(source.resolve()) else path
    path = (here / named).resolve()
    return path if path.exists() else None


def _page(shown: str) -> str:
    """Give the name of the page of a path."""
    return posixpath.normpath(posixpath.join(FOLDER, shown or "repository"))


def _below(folder: Path) -> list[Path]:
    """Give what is to be listed of a folder."""
    return sorted(path for path in folder.iterdir() if path.name not in LEFT_OUT and not path.name.startswith("."))


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Give the pages of all files and folders that are linked to, and of what is in these folders."""
    root = Path(app.srcdir).resolve().parent
    waiting = sorted({shown for named in getattr(app.env, SHOWN).values() for shown in named})
    done: set[str] = set()
    while waiting:
        shown = waiting.pop()
        if shown in done:
            continue
        done.add(shown)
        path = root / shown
        if path.is_dir():
            below = _below(path)
            waiting.extend(child.relative_to(root).as_posix() for child in below)
            body = _list(shown, below)
        else:
            body = _content(app, path, shown)
            raw = Path(app.outdir) / FOLDER / shown
            raw.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, raw)
        heading = f"<h1><code>{html.escape(shown)}</code></h1>"
        yield _page(shown), {"title": shown, "body": heading + body}, "page.html"


def _list(shown: str, below: list[Path]) -> str:
    """Write a folder."""
    base = posixpath.basename(shown)
    items = "".join(
        f'<li><a href="{html.escape(f"{base}/{path.name}.html")}"><code>{html.escape(path.name)}'
        f"{'/' if path.is_dir() else ''}</code></a></li>"
        for path in below
    )
    return f"<ul>{items}</ul>"


def _content(app: Sphinx, path: Path, shown: str) -> str:
    """Write a file."""
    try:
        language = get_lexer_for_filename(path.name).aliases[0]
    except ClassNotFound:
        language = "text"
    text = path.read_text(encoding="utf-8", errors="replace")
    raw = html.escape(posixpath.basename(shown))
    link = f'<p><a href="{raw}" download>Download</a></p>'
    return link + app.builder.highlighter.highlight_block(text, language, force=True)  # type: ignore[attr-defined]


def _begin(_: Sphinx, env: BuildEnvironment, __: list[str]) -> None:
    if not hasattr(env, SHOWN):
        setattr(env, SHOWN, {})


def _forget(_: Sphinx, env: BuildEnvironment, docname: str) -> None:
    getattr(env, SHOWN, {}).pop(docname, None)


def setup(app: Sphinx) -> dict[str, Any]:
    """Join Sphinx."""
    app.add_transform(Links)
    app.connect("env-before-read-docs", _begin)
    app.connect("env-purge-doc", _forget)
    app.connect("html-collect-pages", pages)
    return {"version": "1", "parallel_read_safe": False}
