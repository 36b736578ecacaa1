"""Fitted estimators in notebooks: the experts below scikit-learn's diagram."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

# `project.urls` of both pyproject.toml has the same.
DOCUMENTATION = "https://skmode.github.io/skmode"
# With more experts, a line sums up the others.
N_SHOWN = 8
# Longer names of columns are cut.
N_CHARACTERS = 40


class LinkedInNotebooks(BaseEstimator):
    """An estimator whose HTML links to the docs."""

    # scikit-learn fills in the name; subclasses of users have other modules, and no link. It would
    # take the module that defines a class for the public one.
    _public_module: ClassVar[str] = "skmode"
    _doc_link_module = "skmode"

    @property
    def _doc_link_template(self) -> str:
        return f"{DOCUMENTATION}/api/generated/{self._public_module}.{{estimator_name}}.html"


class ShownInNotebooks(LinkedInNotebooks):
    """An estimator whose HTML shows alpha and experts once it is fitted, and links to the docs."""

    @property
    def _repr_html_(self) -> Callable[[], str]:
        diagram = super()._repr_html_  # an AttributeError unless scikit-learn displays diagrams
        return lambda: diagram() + experts_html(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += experts_html(self)
        return bundle


def experts_html(estimator: Any) -> str:
    """Make a table of alpha and the share of the training rows of each expert; empty before fit."""
    usage = getattr(estimator, "expert_usage_", None)
    if usage is None:
        return ""
    # Largest first, as the eye asks for them; of equal ones the first.
    order = sorted(range(len(usage)), key=lambda expert: -usage[expert])
    rows = [_row(f"expert {expert}", usage[expert]) for expert in order[:N_SHOWN]]
    if rest := order[N_SHOWN:]:
        rows.append(_row(f"{len(rest)} others", sum(usage[expert] for expert in rest)))
    return (
        '<table class="skmode-experts" style="margin-top: 0.5em; border-collapse: collapse">'
        f'<caption style="text-align: left; white-space: nowrap">{_caption(estimator)}</caption>'
        '<thead><tr><th scope="col" style="text-align: left; padding-right: 1em">top expert</th>'
        '<th scope="col" colspan="2" style="text-align: left">share of the training rows</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _caption(estimator: Any) -> str:
    chosen = ", from &quot;auto&quot;" if estimator.alpha == "auto" else ""
    # Pickles from before the first release have no alpha_.
    caption = f"alpha {getattr(estimator, 'alpha_', estimator.alpha):g}{chosen}"
    columns = getattr(getattr(estimator, "encoder_", None), "columns_", [])
    for kind in ("text", "image"):
        names = [html.escape(str(c.name)[:N_CHARACTERS]) for c in columns if c.kind == kind]
        if names:
            caption += f"; {kind}s: {', '.join(names)}"
    return caption


def _row(name: str, share: float) -> str:
    bar = (
        f'<div style="width: {100 * share:.1f}px; height: 0.8em; '
        'background: currentColor; opacity: 0.5"></div>'
    )
    return (
        '<tr><th scope="row" style="text-align: left; font-weight: normal; padding-right: 1em">'
        f"{name}</th>"
        f'<td style="text-align: right; padding-right: 0.5em">{share:.1%}</td>'
        f'<td style="width: 104px" aria-hidden="true">{bar}</td></tr>'
    )
