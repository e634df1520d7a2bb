"""
How ``make docs`` makes a site of these pages: Sphinx with MyST and Furo, offline, and every warning an error.

The pages are read on a forge as well, so that they are plain Markdown, and links between them and to files of the
repository are relative paths. ``_sphinx/files.py`` makes the latter work on the site.
"""

import logging
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_sphinx"))

project = "Token Broker"
author = "the authors of the Token Broker"
copyright = "the authors, Apache-2.0"  # noqa: A001 - Sphinx wants this name
_PACKAGE = (HERE.parent / "broker" / "__init__.py").read_text()
version = release = re.search(r'^__version__ = "(.+)"$', _PACKAGE, re.MULTILINE)[1]

extensions = ["myst_parser", "files"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_sphinx"]
nitpicky = True

# The anchors that a forge gives to headings, down to the fourth level.
myst_heading_anchors = 4
myst_linkify_fuzzy_links = False

html_theme = "furo"
html_title = f"Token Broker {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {"navigation_with_keys": True}

highlight_language = "text"

# A glob that finds nothing beyond what is listed already is no mistake. The warning about it has no type that
# `suppress_warnings` could name.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: "didn't match any documents" not in str(record.msg)
)
