import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny networks run fastest, and bit for bit the same, on one thread."""
    torch.set_num_threads(1)
