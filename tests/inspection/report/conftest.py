"""A report without a browser, and facts and findings without a page."""

import base64
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from skmode.inspection import report
from skmode.inspection._plot import routing
from skmode.inspection._report import write
from skmode.inspection._report.findings.ranking import all_findings
from skmode.inspection._report.measuring import measure
from skmode.inspection._report.pictures import Picture, Pictures


class Page(HTMLParser):
    """What a report says, without a browser."""

    VOID = frozenset(["meta", "link", "img"])

    def __init__(self, text):
        super().__init__()
        self.source = text
        self.tags, self.open, self.ids = [], [], []
        self.tables, self.pieces, self.scripts = {}, [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = self.tables[attributes["id"].removesuffix("-table")] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append([attributes.get("data-key"), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.pieces.append(data)
            if {"th", "td"} & set(self.open):
                self.rows[-1][-1][1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def header(self, table):
        return [text.strip() for _, text in self.tables[table][0]]

    def words(self, table, column=0):
        return [row[column][1].strip() for row in self.tables[table][1:]]

    def numbers(self, table, column):
        return [float(row[column][0] or "nan") for row in self.tables[table][1:]]

    def matrix(self, table, first=1):
        return [[float(key or "nan") for key, _ in row[first:]] for row in self.tables[table][1:]]


def _read(path):
    return Page(path.read_text(encoding="utf-8"))


def _pictures(page):
    """Roots of the embedded pictures."""
    prefix = "data:image/svg+xml;base64,"
    found = []
    for image in page.all("img"):
        assert image["src"].startswith(prefix)
        data = base64.b64decode(image["src"].removeprefix(prefix), validate=True)
        found.append(ElementTree.fromstring(data))
    return found


def _look(estimator, X, y, **options):
    """Facts alone, without a page."""
    defaults = {
        "sample_weight": None,
        "tolerance": None,
        "n_repeats": 2,
        "max_samples": None,
        "random_state": 0,
    }
    return measure(estimator, X, y, **defaults | options)


def _findings(estimator, X, y, margin=0.01, **options):
    found = all_findings(_look(estimator, X, y, **options), margin)
    return {finding.title: finding for finding in found}


@pytest.fixture(autouse=True)
def coarse_map(monkeypatch):
    """A map takes half of a report's time, most of it for the grid."""
    monkeypatch.setattr(routing, "COARSE", 10)
    monkeypatch.setattr(routing, "FINE", 20)
    monkeypatch.setattr(routing, "BACKGROUND", 3)


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw nothing: for tests of what is written, which others look at with pictures."""
    empty = Picture("data:,", 1, 1, "nothing", "Nothing.")
    monkeypatch.setattr(write, "all_pictures", lambda facts: Pictures(empty, None, None, "no map"))


@pytest.fixture(scope="session")
def wine_page(wine, wine_mixture, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "wine.html"
    assert report(wine_mixture, *wine, path, n_repeats=2) == path
    return _read(path)


@pytest.fixture(scope="session")
def diabetes_page(diabetes, diabetes_mixture, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "diabetes.html"
    report(diabetes_mixture, *diabetes, path, n_repeats=1)
    return _read(path)


@pytest.fixture(scope="session")
def read():
    return _read


@pytest.fixture(scope="session")
def pictures():
    return _pictures


@pytest.fixture(scope="session")
def look():
    return _look


@pytest.fixture(scope="session")
def findings():
    return _findings
