"""Bundles that an earlier release wrote are verified and predict as at their export.

``written_by_0.1.0`` holds two bundles that 0.1.0 exported, and beside each the rows and the answers
that 0.1.0 gave to them. They stay as they are: a change that they do not survive is a new schema
version.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from skmode_deploy import bundle, load
from skmode_deploy.samples import check_samples, read_samples

FORMER = Path(__file__).with_name("written_by_0.1.0")


@pytest.fixture(params=["classifier", "regressor"])
def name(request):
    return request.param


@pytest.fixture
def answers(name):
    return json.loads(FORMER.joinpath(f"{name}.json").read_text(encoding="utf-8"))


def test_verify(name):
    manifest = bundle.verify(FORMER / name)
    assert manifest.versions["skmode"] == "0.1.0"
    assert {file.name for file in (FORMER / name).iterdir()} == {*manifest.files, "manifest.json"}


def test_sample_rows(name):
    predictor = load(FORMER / name)
    assert read_samples(FORMER / name, predictor.manifest).n_rows == 32
    check_samples(predictor)


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_predictions(name, strategy, answers):
    found = load(FORMER / name, strategy=strategy).predict_full(answers["rows"])
    assert found.value.dtype.str == answers["dtype"]
    if name == "classifier":
        assert found.value.tolist() == answers["value"]
        np.testing.assert_allclose(found.probabilities, answers["probabilities"], atol=1e-5)
    else:
        assert found.probabilities is None
        np.testing.assert_allclose(found.value, answers["value"], rtol=1e-5, atol=1e-5)
    assert found.expert.tolist() == answers["expert"]
    np.testing.assert_allclose(found.gate_probability, answers["gate_probability"], atol=1e-5)
