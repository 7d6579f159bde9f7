"""The documentation site: every page of Markdown in the repository, and the API from docstrings.

``make docs`` builds it into ``build/docs``, with warnings as errors. The source folder is the root
of the repository, so that links between pages work on GitHub and on the site alike.
"""

from importlib.metadata import version as installed_version

project = "sslkernels"
copyright = "the authors of sslkernels"
release = version = installed_version("sslkernels")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "**/README.md"]
exclude_patterns = [".*", "build", "runs", "**/*.py", "**/*.png"]

# Markdown: maths between dollars and in fences, as GitHub renders it; anchors of headings.
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # pages that begin below the top level

# Names are documented where a user imports them from; types outside the package are not linked.
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
napoleon_use_ivar = True
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!sslkernels).*"),
    ("py:class", r"sslkernels\.\w+\.\w+\..*"),  # types of signatures that are not public
]

html_theme = "furo"
html_title = f"sslkernels {release}"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]


def setup(app) -> None:
    app.connect("autodoc-skip-member", _is_field_of_a_tuple)


def _is_field_of_a_tuple(app, what, name, member, skip, options) -> bool | None:
    """Fields of named tuples, which the docstring of the class describes."""
    return True if (member.__doc__ or "").startswith("Alias for field number") else None
