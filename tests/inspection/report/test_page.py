"""The page is safe, accessible and complete in itself."""

import base64
import hashlib
import os
import re
import tomllib

import matplotlib
import numpy as np
import pandas as pd
import pytest

from skmode import MoDEClassifier
from skmode.inspection import report
from skmode.inspection._report import write

QUICK = {
    "hidden_layer_sizes": (8,),
    "max_epochs": 3,
    "batch_size": 100,
    "random_state": 0,
    "balance": 0.1,
}


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "$\\frac{",
    "\u202e\x00\x0b evil\n\n " + "long" * 60,
    "{{ 7 * 7 }}",
    "שלום",
    " ",
]
HOSTILE_CLASSES = ["</script><script>alert(3)</script>", "<b>&amp;", "\u202eclass\x07"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(150, len(HOSTILE))), columns=HOSTILE)
    y = np.array(HOSTILE_CLASSES)[np.arange(150) % 3]
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    path = tmp_path_factory.mktemp("report") / "hostile.html"
    return report(classifier, X, y, path, title="</title><script>alert(4)</script>", n_repeats=1)


def test_names_are_escaped(hostile, read):
    page = read(hostile)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert tags.count("title") == tags.count("style") == 1
    assert "b" not in tags
    attributes = {name for _, each in page.tags for name in each}
    assert not {name for name in attributes if name.startswith("on")}
    assert HOSTILE[0] in page.words("attention")
    assert HOSTILE[4] in page.words("attention")
    assert HOSTILE_CLASSES[0] in page.words("classes")
    assert HOSTILE_CLASSES[1] in page.words("classes")
    assert not {"\u202e", "\x00", "\x0b", "\x07"} & set(page.source)
    assert "(empty)" in page.words("attention")


def test_pictures_survive_hostile_names(hostile, read, pictures):
    for picture in pictures(read(hostile)):
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        assert not list(picture.iter("{http://www.w3.org/2000/svg}script"))


@pytest.mark.slow
def test_pictures_have_their_own_proportions(wine_page, pictures):
    for image, picture in zip(wine_page.all("img"), pictures(wine_page), strict=True):
        for side in ("width", "height"):
            points = float(picture.get(side).removesuffix("pt"))
            assert int(image[side]) == pytest.approx(points * 96 / 72, abs=1)
        assert 300 < int(image["width"]) < 560


@pytest.mark.slow
def test_dollar_signs_are_not_math(tmp_path, read, pictures):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 2)), columns=["$\\frac{$", "price in $, per $"])
    y = X.iloc[:, 0] > 0
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    assert set(X) <= {"".join(node.itertext()).strip() for node in pictures(page)[1].iter()}


def test_hostile_parameters(wine, tmp_path, read, no_pictures):
    estimator = MoDEClassifier(n_experts=2, callbacks=[], **QUICK).fit(*wine)
    estimator.callbacks = [object()]  # whose repr has an address
    estimator.verbose = "<script>"
    page = read(report(estimator, *wine, tmp_path / "a.html", n_repeats=1))
    values = dict(zip(page.words("parameters"), page.words("parameters", 1), strict=True))
    assert values["callbacks"] == "((object))"
    assert values["verbose"] == "'<script>'"
    assert values["hidden_layer_sizes"] == "(8)"


def test_nothing_is_loaded_from_the_network(wine_page):
    links = [each[name] for _, each in wine_page.tags for name in ("src", "href") if name in each]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(wine_page.ids)
    assert "//" not in re.sub(r"base64,[\w+/=]+|// [^\n]*", "", wine_page.source)
    assert "url(" not in wine_page.source
    assert "@import" not in wine_page.source


def test_csp_allows_only_the_embedded_script(wine_page):
    (policy,) = [
        each["content"]
        for each in wine_page.all("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    (script,) = wine_page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_it_is_accessible(wine_page):
    assert wine_page.all("html") == [{"lang": "en"}]
    assert len(set(wine_page.ids)) == len(wine_page.ids)
    tags = [tag for tag, _ in wine_page.tags]
    assert tags.count("h1") == tags.count("main") == 1
    assert tags.count("table") == len(wine_page.tables) >= 11
    for table in wine_page.all("table"):
        assert table["aria-labelledby"] in wine_page.ids
    assert all(each.get("scope") in ("col", "row") for each in wine_page.all("th"))
    assert all(each["alt"] and each["width"] and each["height"] for each in wine_page.all("img"))
    for region in (each for each in wine_page.all("div") if each.get("role") == "region"):
        assert region["tabindex"] == "0"
        assert region["aria-labelledby"] in wine_page.ids
    assert tags.count("figcaption") == tags.count("img") == 3


@pytest.mark.slow
def test_the_same_input_gives_the_same_file(wine, wine_mixture, tmp_path):
    paths = [tmp_path / "one.html", tmp_path / "two.html"]
    for path in paths:
        report(wine_mixture, *wine, path, n_repeats=1)
        matplotlib.rcParams["axes.grid"] = True  # the user's style is not the report's
    matplotlib.rcdefaults()
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.slow
def test_matplotlib_settings_are_restored(wine, wine_mixture, tmp_path):
    with matplotlib.rc_context({"font.size": 3.0}):
        before = dict(matplotlib.rcParams)
        report(wine_mixture, *wine, tmp_path / "a.html", n_repeats=1)
        assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []


def test_the_wheel_has_the_template():
    root = os.path.join(os.path.dirname(__file__), "..", "..", "..")
    with open(os.path.join(root, "pyproject.toml"), "rb") as file:
        data = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    folder = os.path.dirname(write.__file__)
    beside = {each.name for each in os.scandir(folder) if each.is_file()}
    beside = {name for name in beside if not name.endswith(".py")}
    assert beside == set(data["skmode.inspection._report"])
