from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that starts empty, so that each archive is really downloaded once."""
    return tmp_path_factory.mktemp("skmode_data")
