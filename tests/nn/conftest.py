import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from one seed, and give the random state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
