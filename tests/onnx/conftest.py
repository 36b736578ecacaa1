import numpy as np
import pandas as pd
import pytest
import torch

from skmode import MoDEClassifier, MoDERegressor

# The weights are moved afterwards: one step trains as well as many.
ONE_STEP = {"max_epochs": 1, "batch_size": 1000}


def perturb(estimator, seed=0, scale=0.5):
    """Move all weights at random: the experts differ, the gate decides, nothing is zero by luck."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in estimator.net_.module_.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += noise * scale * max(parameter.shape[-2:-1] or (1,)) ** -0.5
    return estimator


@pytest.fixture(scope="session")
def array():
    """Rows of an array, some values missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 5)) * [1, 10, 0.1, 1, 1000]
    X[rng.random(X.shape) < 0.05] = np.nan
    return X


@pytest.fixture(scope="session")
def table():
    """Rows of a table with numbers, strings and numeric categories, some missing."""
    rng = np.random.default_rng(1)
    n = 400
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "income": rng.lognormal(10, 1, n),
            "member": rng.random(n) < 0.5,
            "city": rng.choice(["Bern", "Köln", "Łódź", "a b/c"], n),
            "plan": pd.Categorical(rng.choice([1.5, 2.25, 2.0**52], n)),
            "label": rng.choice(["x", "y"], n),
        }
    )
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    frame["city"] = frame["city"].astype(object).where(rng.random(n) > 0.1, None)
    frame["plan"] = frame["plan"].where(rng.random(n) > 0.1)
    return frame


@pytest.fixture(scope="session")
def fit_classifier():
    """Fit a small classifier in no time, with weights that are far from their start."""

    def fit(X, classes=("bad", "fair", "good"), **params):
        y = np.asarray(classes)[np.arange(len(X)) % len(classes)]
        defaults = {"n_experts": 3, "hidden_layer_sizes": (16, 8)} | ONE_STEP
        return perturb(MoDEClassifier(**defaults | {"random_state": 0} | params).fit(X, y))

    return fit


@pytest.fixture(scope="session")
def fit_regressor():
    """Fit a small regressor in no time, with weights that are far from their start."""

    def fit(X, n_outputs=1, **params):
        y = np.random.default_rng(0).normal(3, 2, size=(len(X), n_outputs))
        y = y[:, 0] if n_outputs == 1 else y
        defaults = {"n_experts": 3, "hidden_layer_sizes": (16, 8)} | ONE_STEP
        return perturb(MoDERegressor(**defaults | {"random_state": 0} | params).fit(X, y))

    return fit


@pytest.fixture(scope="session")
def split_real():
    """Split a real table so that serving meets what training did not see.

    The rarest category of each text column with three or more goes to the test rows alone, and one
    string in twenty of either part is missing.
    """

    def split(X, y, n_train=500, n_test=1500):
        rng = np.random.default_rng(0)
        text = [name for name in X if not pd.api.types.is_numeric_dtype(X[name])]
        counts = {name: X[name].value_counts() for name in text}
        rare = np.zeros(len(X), dtype=bool)
        for name, count in counts.items():
            count = count[count > 0]
            if len(count) > 2:
                rare |= (X[name] == count.index[-1]).to_numpy()
        X = X.copy()
        for name in text:
            X.loc[rng.random(len(X)) < 0.05, name] = np.nan
        order = rng.permutation(np.flatnonzero(~rare))
        train, test = order[:n_train], np.concatenate([np.flatnonzero(rare), order[n_train:]])
        test = test[:n_test]
        unseen = [~X[c].iloc[test].isin(X[c].iloc[train]) & X[c].iloc[test].notna() for c in text]
        assert sum(column.sum() for column in unseen) > 0
        y = np.asarray(y)
        return X.iloc[train], X.iloc[test], y[train], y[test]

    return split
