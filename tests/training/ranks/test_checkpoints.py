"""Fits of datasets that several processes run together, and go on with after all were killed."""

import os
import signal
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmode import MoDERegressor

sys.path.insert(0, str(Path(__file__).parent))
import cloudpickle
from workers import Workers

# Workers cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

# Seconds in which all ranks must have an error.
SOON = 30
QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "numeric_embedding": None,
    "dropout": 0.3,
    "max_epochs": 4,
    "batch_size": 67,
    "random_state": 0,
}


class Killed(Exception):
    """Ends a fit in the middle."""


@pytest.fixture(scope="module")
def workers():
    made = Workers(2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Path of a Parquet file."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(303, 3)), columns=list("abc"))
    frame["kind"] = rng.choice(["x", "y"], len(frame))
    frame["y"] = np.sign(frame["a"] * frame["b"]) + (frame["kind"] == "x")
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    frame.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def expected(workers, rows):
    """What ranks make without a checkpoint."""
    return same(workers.run(fit, rows, None))


def fit(rank, rows, folder, step=None, kill=False, options=(), **arguments):
    """Fit on a rank, and fail before a step. Arguments may be those of the second rank."""
    from skmode._training.callbacks import checkpoints

    steps = []

    def fails(net, *args, _step=checkpoints.Checkpoint.on_batch_begin, **kwargs):
        steps.append(1)
        if len(steps) == step:
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed
        _step(net, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(checkpoints, "EVERY_SECONDS", 0)
        patch.setattr(checkpoints, "SEEN_SECONDS", 0.5)
        patch.setattr(checkpoints.Checkpoint, "on_batch_begin", fails)
        if rank == 1:
            folder = arguments.pop("second_folder", folder)
            rows = arguments.pop("second_rows", rows)
            arguments |= arguments.pop("second", {})
        arguments = {"target": "y"} | {
            name: each for name, each in arguments.items() if not name.startswith("second")
        }
        model = MoDERegressor(**QUICK | dict(options))
        return model.fit(ds.dataset(rows), checkpoint=folder, **arguments)


def weights(model):
    return np.concatenate(
        [each.numpy().ravel() for each in model.net_.module_.state_dict().values()]
    )


def same(answers):
    """Check that ranks ended alike, and return one."""
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    first, second = answers
    assert_array_equal(weights(first), weights(second))
    assert first.history_ == second.history_
    return first


@pytest.mark.parametrize("step", [3, 9, 18])  # in the first epoch, in a later one, in the refit
def test_goes_on_to_the_same_bits(workers, rows, expected, tmp_path, step):
    """Also of dropout, whose numbers are other ones on each rank."""
    for answer in workers.run(fit, rows, tmp_path, step):
        assert isinstance(answer, Killed)
    begun = {path.name for path in tmp_path.iterdir()}
    assert {"fit.json", "rows.bin", "rows.pickle"} < begun
    assert ("refit.pt" in begun) == (step == 18)
    found = same(workers.run(fit, rows, tmp_path))
    assert_array_equal(weights(found), weights(expected))
    assert found.loss_curve_ == expected.loss_curve_
    assert found.refit_n_iter_ == expected.refit_n_iter_ > 0
    assert not list(tmp_path.glob("*.partial"))
    # From what is finished; nobody reads the rows again.
    again = same(workers.run(fit, rows, tmp_path, 1))
    assert_array_equal(weights(again), weights(expected))


@pytest.mark.parametrize("begins", ["ranks", "one"])
def test_another_number_of_ranks_goes_on(workers, rows, tmp_path, begins):
    options = {"dropout": 0.0, "precision": "float64"}
    expected = fit(0, rows, None, options=options)
    if begins == "ranks":
        workers.run(fit, rows, tmp_path, 9, options=options)
        found = fit(0, rows, tmp_path, options=options)
    else:
        with pytest.raises(Killed):
            fit(0, rows, tmp_path, 9, options=options)
        found = same(workers.run(fit, rows, tmp_path, options=options))
    assert_allclose(weights(found), weights(expected), atol=1e-6)
    assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-6)


def test_what_one_rank_gets_wrong_fails_on_all(workers, rows, tmp_path):
    same(workers.run(fit, rows, tmp_path / "state", options={"max_epochs": 1}))
    (tmp_path / "file").touch()
    other = tmp_path / "other.parquet"
    pd.read_parquet(rows)[1:].to_parquet(other)
    wrong = {
        "is not to be seen on rank(s) [1]": {"second_folder": tmp_path / "other"},
        "checkpoint is a folder on rank 0 and None on rank 1": {"second_folder": None},
        "the choice of columns is ['y'] and [] on rank 0 and ['a'] and [] on rank 1": {
            "second": {"target": "a"}
        },
        "the list of its files and columns is of digest": {"second_rows": other},
        "A checkpoint is resumed with the parameters": {"options": {"n_experts": 3}},
    }
    for message, arguments in wrong.items():
        begun = time.monotonic()
        first, second = workers.run(fit, rows, tmp_path / "state", limit=SOON, **arguments)
        assert isinstance(first, ValueError)
        assert str(first) == str(second)
        assert message in str(first)
        assert time.monotonic() - begun < SOON
    # What belongs to the fit before is still there.
    model = same(workers.run(fit, rows, tmp_path / "state", 1, options={"max_epochs": 1}))
    assert model.n_iter_ == 1
    first, second = workers.run(fit, rows, tmp_path / "file", limit=SOON)
    assert isinstance(first, OSError)
    assert "rank 0 failed with OSError: checkpoint must name a folder" in str(second)


def test_a_long_work_of_one_rank_is_waited_for(workers):
    """Such as encoding rows, longer than the time limit of the group."""

    def task(rank, fails):
        import torch.distributed as dist

        from skmode._training.process.ranks import together

        def work():
            time.sleep(2.5)
            if fails:
                raise ZeroDivisionError("of the test")
            return rank, "done"

        store = dist.distributed_c10d._get_default_store()
        before = store.timeout
        store.set_timeout(timedelta(seconds=1))
        try:
            with together() as ranks:
                return ranks.once(work)
        finally:
            store.set_timeout(before)

    assert workers.run(task, False, limit=SOON) == [(0, "done")] * 2
    first, second = workers.run(task, True, limit=SOON)
    assert isinstance(first, ZeroDivisionError)
    assert "rank 0 failed with ZeroDivisionError" in str(second)


@pytest.mark.slow
def test_goes_on_after_kill_9_of_all_ranks(workers, rows, expected, tmp_path):
    killed = Workers(2)
    try:
        answers = killed.run(fit, rows, tmp_path, 9, kill=True)
        assert all(isinstance(answer, EOFError) for answer in answers)
        assert {process.wait() for process in killed.processes} == {-signal.SIGKILL}
    finally:
        killed.close()
    assert list(tmp_path.glob("training-*.pt"))
    found = same(workers.run(fit, rows, tmp_path))
    assert_array_equal(weights(found), weights(expected))
    assert found.n_iter_ == expected.n_iter_
