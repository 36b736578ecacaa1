"""Fixtures for the tests of Dask, Ray and Spark: rows and expected predictions."""

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from skmode_deploy import batch

EXAMPLES = Path(__file__).parents[2] / "examples"
MILLION = 1_000_000


@pytest.fixture
def make_rows(tmp_path):
    """Write rows as a folder of Parquet files."""

    def make(n_rows=MILLION, n_files=100):
        rng = np.random.default_rng(0)
        cities = np.array(["Bern", "Köln", "Paris", ""], object)[rng.integers(0, 4, n_rows)]
        table = pa.table(
            {
                "id": pa.array(np.arange(n_rows)),
                "age": pa.array(rng.uniform(3, 80, n_rows), mask=rng.random(n_rows) < 0.1),
                "city": pa.array(cities, mask=rng.random(n_rows) < 0.1),
                "plan": pa.array(rng.integers(1, 3, n_rows).astype(float)),
                # Beyond 2**53 and with nulls, which floats cannot hold.
                "code": pa.array(np.arange(n_rows) + 2**60, mask=rng.random(n_rows) < 0.1),
            }
        )
        (tmp_path / "rows").mkdir()
        for i in range(n_files):
            first, last = i * n_rows // n_files, (i + 1) * n_rows // n_files
            parquet.write_table(table[first:last], tmp_path / "rows" / f"part-{i:03}.parquet")
        return tmp_path / "rows"

    return make


@pytest.fixture
def check_answers(table_bundle, tmp_path):
    """Check that a folder holds the answers that one process gives, each row once."""

    def read(folder):
        return parquet.read_table(folder).replace_schema_metadata().sort_by("id")

    def check(source, target, **options):
        batch.score_folder(
            table_bundle, source, tmp_path / "serial", keep=["id", "code"], **options
        )
        expected, found = read(tmp_path / "serial"), read(target)
        assert found.schema == expected.schema
        assert found.num_rows == expected.num_rows
        assert found.equals(expected)
        assert (Path(target) / "_SUCCESS").exists()

    return check


@pytest.fixture
def run_example(tmp_path):
    """Run an example as its first lines say."""

    def run(name, *arguments, **environment):
        # Ray writes to the home folder.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path), **environment}
        command = [sys.executable, EXAMPLES / name, *arguments, "--keep", "id", "--keep", "code"]
        done = subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run


@pytest.fixture
def load_example(monkeypatch):
    """Import an example, which the processes that are started from now on can import as well."""
    paths = [str(EXAMPLES), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


class Watch(threading.Thread):
    """Look at the files that are written, and do something once when some are there."""

    def __init__(self, target, n_files, action):
        super().__init__(daemon=True)
        self.target, self.n_files, self.action = target, n_files, action
        self.over = threading.Event()
        self.seen = 0

    def run(self):
        while not self.over.wait(0.01):
            files = list(self.target.glob("*.parquet"))
            if len(files) >= self.n_files:
                self.action()
                self.seen = len(files)
                return

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


@pytest.fixture
def watch():
    return Watch
