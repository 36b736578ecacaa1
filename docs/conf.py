"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_tools"), str(DOCS.parent)]

import pages  # noqa: E402
import pictures  # noqa: E402
import public  # noqa: E402

import skmode  # noqa: E402

project = "skmode"
author = "skmode developers"
project_copyright = "skmode developers, BSD-3-Clause"
version = release = skmode.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "extension",
]
exclude_patterns = ["_build", "_tools", "examples", "gallery/searchindex*"]
templates_path = ["_templates"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
root_doc = "index"
nitpicky = True
show_warning_types = True
suppress_warnings = ["config.cache"]

# Markdown. `repo:` links lead to files of the repository, and tests/test_docs.py looks for them.
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "html_image"]
myst_heading_anchors = 3
myst_url_schemes = {
    "http": None,
    "https": None,
    "repo": {"url": f"{pages.REPOSITORY}/blob/main/{{{{path}}}}", "title": "{{path}}"},
}

# Docstrings.
# By name: with True, a build after another one would miss pages that are new.
autosummary_generate = sorted(f"api/{path.name}" for path in (DOCS / "api").glob("*.rst"))
autosummary_context = {"methods_of": public.methods, "directive_of": public.directive}
autodoc_typehints = "none"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# The gallery: each example is run, one after another, on data that come with packages.
warnings.filterwarnings("ignore", message="The estimator predicts by its mixture")
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "plot_gallery": True,
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "image_scrapers": ("matplotlib",),
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
    "matplotlib_animations": False,
    "backreferences_dir": None,
    "copyfile_regex": "",
}

# The theme. No file of it comes from another host.
html_theme = "pydata_sphinx_theme"
html_title = f"skmode {release}"
html_static_path = ["_static", "pictures"]
html_css_files = ["skmode.css"]
html_js_files = ["names.js"]
html_favicon = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_sidebars = {
    "index": [],
    "install": [],
    "tour": [],
    "comparison": [],
    "faq": [],
    "changelog": [],
}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"image_light": "_static/logo.svg", "image_dark": "_static/logo.svg", "text": "skmode"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "icon_links": [{"name": "Source", "url": pages.REPOSITORY, "icon": "fa-brands fa-github"}],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}


def setup(app: object) -> None:
    """Write the pages and pictures that are made from code and results; then Sphinx reads."""
    pages.write(DOCS)
    pictures.write(DOCS / "pictures")
