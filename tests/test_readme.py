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
    assert len(blocks) == 2
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    X_test, model, served = names["X_test"], names["model"], names["served"]
    np.testing.assert_array_equal(served.predict(X_test), model.predict(X_test))
    np.testing.assert_array_equal(served.route(X_test), model.route(X_test))
    served = skmode_deploy.load("churn")
    assert served.predict_proba(X_test) == pytest.approx(model.predict_proba(X_test), abs=1e-5)


def test_links_within_the_checkout_exist():
    text = README.read_text()
    links = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    links += re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert len(links) > 15
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_make_targets_exist():
    makefile = (README.parent / "Makefile").read_text()
    targets = set(re.findall(r"`make ([\w-]+)`", README.read_text()))
    assert targets >= {"demo", "docs", "test"}
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 130
