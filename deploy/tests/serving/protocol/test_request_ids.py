"""Request ids: valid ones are kept, others replaced."""

import pytest

from skmode_deploy.serving.protocol.request_ids import choose_request_id


@pytest.mark.parametrize("given", ["a", "case-17.a", "2026:11_22", "x" * 128])
def test_plain_ids_are_kept(given):
    assert choose_request_id(given) == given


@pytest.mark.parametrize("given", ["", "a b", "a\n", "ä", '{"a": 1}', "x" * 129])
def test_invalid_ids_are_replaced(given):
    made = {choose_request_id(given) for _ in range(100)}
    assert len(made) == 100
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in made)
