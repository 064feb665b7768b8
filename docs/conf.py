"""Sphinx configuration: MyST pages, API pages from docstrings, no network when the pages are viewed."""

import importlib.metadata

project = "bgbench"
author = "the bgbench authors"
release = importlib.metadata.version("bgbench")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"bgbench {release}"
exclude_patterns = ["README.md"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
