"""Sphinx configuration: MyST pages, API pages from docstrings, no network when the pages are viewed."""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import generate

project = "bgbench"
author = "the bgbench authors"
release = importlib.metadata.version("bgbench")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"bgbench {release}"
html_static_path = ["static"]
html_css_files = ["wide.css"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True

generate.write_pages()


def write_list(application: Any, failure: Exception | None) -> None:
    """Write the list of pages for agents, once the site is there."""
    if failure is None and application.builder.name == "html":
        titles = {name: node.astext() for name, node in application.env.titles.items()}
        generate.write_list(Path(application.outdir), titles)


def setup(application: Any) -> None:
    """What Sphinx calls first."""
    application.connect("build-finished", write_list)
