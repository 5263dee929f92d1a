"""Sphinx configuration of the documentation site: `sphinx-build -W --keep-going docs site`."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent / "src")]

import tabb  # noqa: E402

project = "tabb"
author = "the tabb contributors"
copyright = author
version = release = tabb.__version__

# The last four are of this project, in `_ext`.
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "repository_links",
    "command_pages",
    "plain_docstrings",
    "equations",
]
exclude_patterns = ["_ext", "commands/examples"]
suppress_warnings = ["myst.header"]  # a page may leave out a level of headings

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_allow_digits = False
myst_dmath_double_inline = False

html_theme = "furo"
html_title = f"tabb {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "pictures"
# Furo loads neither fonts nor scripts from elsewhere, and no option that would is set.
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "native"

# Docstrings are plain text with single backticks for code.
default_role = "code"
smartquotes = False
autoclass_content = "class"
autodoc_inherit_docstrings = False  # a seam that a rule fills is told once, under Rule
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"
