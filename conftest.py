"""For all tests and doctests."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def without_fsync():
    """Skip waiting for the disk, which takes longer than a small model's export itself."""
    fsync, os.fsync = os.fsync, lambda descriptor: None
    yield
    os.fsync = fsync
