"""What notebooks show of estimators."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode._common.notebooks.display import DOCUMENTATION, experts_html
from skmode.language import DomainRouter, ModularLanguageModel

ROOT = Path(__file__).parents[2]
SMALL = {"n_experts": 3, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    return MoDEClassifier(alpha=10, **SMALL).fit(X, (X[:, 0] > 0).astype(int))


def rows(html: str) -> list[list[str]]:
    """Read the table, which is well-formed."""
    body = ElementTree.fromstring(html).find("tbody")
    return [["".join(cell.itertext()) for cell in row][:2] for row in body]


def test_shows_alpha_and_shares(fitted):
    html = fitted._repr_html_()
    assert fitted._repr_mimebundle_()["text/html"].count("skmode-experts") == 1
    table = experts_html(fitted)
    assert html.endswith(table)
    assert ">alpha 10<" in table
    order = np.argsort(-fitted.expert_usage_, kind="stable")
    assert rows(table) == [
        [f"expert {expert}", f"{fitted.expert_usage_[expert]:.1%}"] for expert in order
    ]


def test_sums_up_many_experts():
    model = MoDERegressor(alpha="auto")
    model.alpha_, model.expert_usage_ = 10.0, np.repeat([0.1, 0.0], [10, 2])
    table = experts_html(model)
    assert ">alpha 10, from &quot;auto&quot;<" in table
    assert [name for name, _ in rows(table)] == [*(f"expert {i}" for i in range(8)), "4 others"]
    assert rows(table)[-1][1] == "20.0%"


def test_shows_the_fitted_alpha(fitted):
    before = fitted.alpha
    assert ">alpha 10<" in experts_html(fitted.set_params(alpha=3))
    fitted.set_params(alpha=before)


def test_nothing_before_fit_and_without_diagrams(fitted):
    assert "skmode-experts" not in MoDEClassifier()._repr_html_()
    with config_context(display="text"):
        assert not hasattr(fitted, "_repr_html_")
        assert list(fitted._repr_mimebundle_()) == ["text/plain"]


class Own(MoDEClassifier):
    """A user's subclass, which skmode's site does not describe."""


@pytest.mark.parametrize("cls", [DomainRouter, ModularLanguageModel])
def test_language_models_link_to_the_documentation(cls):
    link = f"{DOCUMENTATION}/api/generated/skmode.language.{cls.__name__}.html"
    assert f'href="{link}"' in cls()._repr_html_()


@pytest.mark.parametrize("cls", [MoDEClassifier, MoDERegressor])
def test_links_to_the_documentation(cls):
    link = f"{DOCUMENTATION}/api/generated/skmode.{cls.__name__}.html"
    assert f'href="{link}"' in cls()._repr_html_()
    assert f'href="{link}"' in make_pipeline(StandardScaler(), cls())._repr_html_()
    assert DOCUMENTATION not in Own()._repr_html_()


@pytest.mark.parametrize("project", ["pyproject.toml", "deploy/pyproject.toml"])
def test_the_link_is_that_of_the_project(project):
    urls = tomllib.loads((ROOT / project).read_text())["project"]["urls"]
    assert urls["Documentation"] == DOCUMENTATION
    assert not re.search(r"/$", DOCUMENTATION)
