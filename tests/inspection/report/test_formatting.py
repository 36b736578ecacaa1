"""Figures and names, formatted for people."""

import pytest

from skmode.inspection._plot.labels import label
from skmode.inspection._report import formatting


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("  two \n words\t", "two words"),
        ("", "(empty)"),
        ("x" * 99, "x" * 59 + "…"),
        (3, "3"),
    ],
)
def test_names_are_sanitized(value, expected):
    assert label(value, 60) == expected
    assert expected.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formatting.percent(0.12345), "12.3\u00a0%"),
        (formatting.percent(-0.00001), "0.0\u00a0%"),
        (formatting.percent(-0.5), "\u221250.0\u00a0%"),
        (formatting.percent(float("nan")), "\u2013"),
        (formatting.number(58.5), "58.50"),
        (formatting.number(123456.7), "123,457"),
        (formatting.number(5400.0), "5400"),
        (formatting.fixed(-0.001, 2), "0.00"),
        (formatting.count(1, "row"), "1\u00a0row"),
        (formatting.count(1200, "class", "classes"), "1,200\u00a0classes"),
        (formatting.listing([]), ""),
        (formatting.listing(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_figures_are_formatted_for_people(text, expected):
    assert text == expected
