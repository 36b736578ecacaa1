"""A Sphinx extension: formulas as MathML, shapes in docstrings, links to other projects' pages."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml

# By the first part of a name, where its page is.
PAGES = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{name}.html",
    "skorch": "https://skorch.readthedocs.io/en/stable/{module}.html",
    "pyarrow": "https://arrow.apache.org/docs/python/generated/{name}.html",
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{name}.html",
    "copy": "https://docs.python.org/3/library/copy.html#{name}",
}


def setup(app: Any) -> dict[str, bool]:
    """Register them."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_block, None))
    app.connect("missing-reference", link_to_others)
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)  # before numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def link_to_others(app: Any, env: Any, node: Any, content: Any) -> nodes.reference | None:
    """Link a name of scikit-learn, torch and so on; their inventories would need a network."""
    name = node.get("reftarget", "")
    page = PAGES.get(name.split(".")[0])
    if node.get("refdomain") != "py" or page is None:
        return None
    # As in skorch.callbacks, a module, and skorch.NeuralNet, a name of the module net.
    module = "callbacks" if name.startswith("skorch.callbacks") else "net"
    address = page.format(name=name, module=module)
    return nodes.reference("", "", content, internal=False, refuri=address)


def escape_shapes(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep reStructuredText from reading `(*, width)` and `(n_features_in_,)` as markup."""
    for i, line in enumerate(lines):
        if "shape (" in line and "`" not in line:
            lines[i] = re.sub(r"\*(?=[,)])", r"\\*", re.sub(r"_(?=[,)])", r"\\_", line))


def _visit_math(writer: Any, node: Any) -> None:
    writer.body.append(_mathml(node.astext()))
    raise nodes.SkipNode


def _visit_block(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="math">{_mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def _mathml(formula: str, block: bool = False) -> str:
    text = latex2mathml.tex2mathml(formula, as_block=block)
    return re.sub(r"\s*\n\s*", "", text)
