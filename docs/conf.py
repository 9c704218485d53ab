"""What `make docs` builds the site with."""

import importlib.metadata
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "extensions"))

project = "tfdp"
author = "the authors of tfdp"
release = version = importlib.metadata.version("tfdp")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    # Of this folder.
    "elsewhere",
    "markdown_docstrings",
    "public_names",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Reference"]
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True

nitpicky = True
# Types of other packages, and those that no user has to do with.
_INTERNAL = "Applied|Breakdown|Compile\\w+|Data|Exchange|Memory|Moments|Reduced|Step\\w+"
nitpick_ignore_regex = [("py:.*", rf"(?!tfdp).*|tfdp\..*\.(?:{_INTERNAL})")]

# Not of dashes: they begin the names of options.
smartquotes_action = "q"

html_theme = "furo"
html_title = f"tfdp {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
# It would be fetched, which browsers refuse to pages that are files.
html_show_search_summary = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
