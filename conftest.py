"""For all tests and doctests."""

import gc
import os

import pytest


def pytest_collection_finish():
    """Spare the garbage collector the modules and tests, which stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def without_fsync():
    """Skip waiting for the disk, which takes longer than a small model's export itself."""
    fsync, os.fsync = os.fsync, lambda descriptor: None
    yield
    os.fsync = fsync
