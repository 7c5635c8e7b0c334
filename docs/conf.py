"""The pages of the repository, and the docstrings of the public names -> a site in build/docs, by Sphinx; `make docs`.

Every link between pages and every mention of a name is checked; a wrong one is an error.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # autodoc imports the package

project = "gluon_lenet"
author = "the gluon_lenet contributors"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
root_doc = "README"
include_patterns = [
    *("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md"),
    *("benchmarks/README.md", "benchmarks/results/*.md", "gluon_lenet/pretrained/*.md"),
]
html_theme = "alabaster"
html_theme_options = {"description": "LeNet in MXNet Gluon", "page_width": "66em", "fixed_sidebar": True}
html_show_sourcelink = False
html_sidebars = {"**": ["about.html", "searchfield.html"]}

default_role = "literal"  # `name` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes and units; types stand in the signature's source
napoleon_custom_sections = ["Attributes"]
myst_heading_anchors = 4  # as GitHub numbers them
suppress_warnings = ["myst.header", "toc.not_included"]  # pages are found by their links, as on GitHub
linkcheck_anchors = False  # GitHub makes them in the browser
