"""Refusals quote what a client sent."""

import pytest

pytest.importorskip("orjson")

from skmode_deploy.serving.protocol.errors import shorten


def test_a_refusal_shows_only_the_start_of_a_long_value():
    text = shorten("x" * 10**6)
    assert len(text) < 100
    assert text.endswith("...")
