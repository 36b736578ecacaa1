"""`examples/train_ray.py` in a process of its own, which starts Ray."""

import importlib.util
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.dataset as ds
import pytest

from skmode import MoDEClassifier

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs the extra 'ray'"),
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # Ray starts a dozen processes, which is slow on a busy machine
]

ROOT = Path(__file__).parents[2]
# Writes checkpoints often, and logs which trainings go on from one.
PROGRAM = """
import os, sys
import train_ray
from skmode._training.callbacks import checkpoints

train = train_ray.train

def quick(config):
    begin = checkpoints.Checkpoint.begin

    def logged(self, *args):
        done = begin(self, *args)
        with open(os.environ["LOG"], "a") as file:
            file.write(f"{self.path.stem} {'goes on' if self.saved else 'begins'}\\n")
        return done

    checkpoints.Checkpoint.begin = logged
    checkpoints.EVERY_SECONDS = 0.1
    train(config)

train_ray.train = quick
train_ray.main(sys.argv[1:])
"""


def rows(seed, n_rows=4000):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n_rows, 4)), columns=list("abcd"))
    frame["kind"] = rng.choice(["x", "y", "z"], n_rows)
    frame["label"] = np.where((frame["a"] + frame["b"] > 0) ^ (frame["kind"] == "x"), "yes", "no")
    return frame


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows").mkdir()
    for i, part in enumerate(np.array_split(np.arange(4000), 3)):
        rows(0).iloc[part].to_parquet(tmp_path / "rows" / f"part-{i}.parquet")
    return tmp_path


def test_a_killed_worker_is_replaced(folder):
    log = folder / "log"
    environment = os.environ | {
        "HOME": str(folder),  # where Ray writes to
        "LOG": str(log),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    options = ["--target", "label", "--epochs", "40", "--batch-size", "256"]
    command = [sys.executable, "-c", PROGRAM, folder / "rows", folder / "state", *options]
    begun = subprocess.Popen(
        [*map(str, command), "--output", str(folder / "model.pickle")],
        env=environment,
        stdout=(folder / "output").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        while not list((folder / "state" / "fit").glob("training-*.pt")):
            assert begun.poll() is None, (folder / "output").read_text()[-3000:]
            time.sleep(0.02)
        workers = [
            process
            for process in psutil.Process(begun.pid).children(recursive=True)
            if process.is_running() and "::RayTrainWorker" in "".join(process.cmdline())
        ]
        assert len(workers) == 2
        workers[1].kill()
        assert not (folder / "model.pickle").exists()  # it was in the middle
        begun.wait()
    finally:
        begun.kill()
    assert begun.returncode == 0, (folder / "output").read_text()[-3000:]
    assert "with 2 workers" in (folder / "output").read_text()
    assert [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()[:4]] == [
        *["begins"] * 2,
        *["goes on"] * 2,
    ]
    found = pickle.loads((folder / "model.pickle").read_bytes())
    alone = MoDEClassifier(max_epochs=40, batch_size=256, random_state=0)
    alone.fit(ds.dataset(folder / "rows"), target="label")
    new = rows(1)
    scores = [each.score(new.drop(columns="label"), new["label"]) for each in (found, alone)]
    assert min(scores) > 0.9
    assert abs(scores[0] - scores[1]) < 0.02
