"""The code, links and commands of the README work."""

import re
from pathlib import Path

import numpy as np
import pytest

import skmode_deploy

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    X_test, model, served = names["X_test"], names["model"], names["served"]
    np.testing.assert_array_equal(served.predict(X_test), model.predict(X_test))
    np.testing.assert_array_equal(served.route(X_test), model.route(X_test))
    pipeline = names["pipeline"].set_params(modeclassifier__inference="top_expert")
    served = skmode_deploy.load("churn-pipeline")
    np.testing.assert_array_equal(served.predict(X_test), pipeline.predict(X_test))
    reader, images = names["reader"], names["images"]
    served = skmode_deploy.load("digits")
    np.testing.assert_array_equal(served.predict(images), reader.predict(images))
    taught = names["taught"]
    assert taught.teacher_scores_["loss"]["top_expert"] <= taught.teacher_scores_["loss"]["plain"]
    served = skmode_deploy.load("churn-taught")
    np.testing.assert_array_equal(served.predict(X_test), taught.predict(X_test))


def test_links_within_the_checkout_exist():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_make_targets_exist():
    makefile = (README.parent / "Makefile").read_text()
    targets = set(re.findall(r"`make ([\w-]+)`", README.read_text()))
    assert targets >= {"demo", "test", "test-fast", "lint", "bench"}
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
