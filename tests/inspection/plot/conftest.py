"""Pictures rendered and measured, and fitted models to draw."""

import io
import warnings

import pytest
from sklearn.datasets import make_moons

from skmode import MoDEClassifier
from skmode.inspection import alpha_path

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "balance": 0.1}


def _render(display):
    """Draw without any complaint, and return the picture's bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = io.BytesIO()
        display.figure_.savefig(file, format="png")
    return file.getvalue()


def _labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def _inside(inner, outer, slack=1.0):
    """Whether a box in pixels lies within another one."""
    return (
        inner.x0 >= outer.x0 - slack
        and inner.x1 <= outer.x1 + slack
        and inner.y0 >= outer.y0 - slack
        and inner.y1 <= outer.y1 + slack
    )


def _line(ax, label):
    return next(one for one in ax.get_lines() if one.get_label() == label)


@pytest.fixture(scope="session")
def path(wine):
    return alpha_path(MoDEClassifier(n_experts=2, **QUICK), *wine, alphas=[0, 1, 10], cv=2)


@pytest.fixture(scope="session")
def moons():
    X, y = make_moons(200, noise=0.2, random_state=0)
    return MoDEClassifier(n_experts=3, **QUICK).fit(X, y), X


@pytest.fixture(scope="session")
def render():
    return _render


@pytest.fixture(scope="session")
def labels():
    return _labels


@pytest.fixture(scope="session")
def inside():
    return _inside


@pytest.fixture(scope="session")
def line():
    return _line
