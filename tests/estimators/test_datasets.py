"""Datasets larger than memory: fits equal those in memory, go on after a kill, and name rows."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss, r2_score

from skmode import MoDEClassifier, MoDEImageClassifier, MoDERegressor, MoDETextClassifier
from skmode._training.callbacks import checkpoints
from skmode._training.rows import stored
from skmode.inspection import expert_probing, route_confusion

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "numeric_embedding": None,
    "max_epochs": 6,
    "random_state": 0,
}
N_ROWS = 1200


def make_frame(n_rows=N_ROWS):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n_rows, 2)), columns=["a", "b"])
    frame.loc[::9, "b"] = np.nan
    frame["c"] = rng.choice(["u", "v", ""], n_rows)
    frame["whole"] = rng.integers(0, 9, n_rows)
    noise = 0.2 * rng.normal(size=n_rows)
    frame["value"] = 10 * (frame["a"] + (frame["c"] == "u") + noise)
    frame["label"] = np.where(frame["value"] > 3, "yes", "no")
    frame["weight"] = rng.integers(0, 3, n_rows).astype(float)
    return frame


FRAME = make_frame()
FEATURES = ["a", "b", "c", "whole"]
TRAIN = FRAME[[*FEATURES, "label", "weight"]].sort_values("label", ignore_index=True)


def write(folder, frame, n_files=3):
    folder.mkdir(exist_ok=True)
    for i, part in enumerate(np.array_split(np.arange(len(frame)), n_files)):
        table = pa.Table.from_pandas(frame.iloc[part], preserve_index=False)
        pq.write_table(table, folder / f"part-{i}.parquet")
    return ds.dataset(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Sorted by class."""
    return write(tmp_path_factory.mktemp("rows"), TRAIN)


@pytest.fixture
def several_shards(monkeypatch):
    monkeypatch.setattr(stored, "SHARD_ROWS", 128)
    monkeypatch.setattr(stored, "BUFFER_ROWS", 256)


@pytest.mark.parametrize("weighted", [False, True])
def test_as_good_as_in_memory_although_sorted_by_class(dataset, several_shards, weighted):
    weight = {"sample_weight": "weight"} if weighted else {}
    rows = dataset if weighted else write_without_weight(dataset)
    classifier = MoDEClassifier(**QUICK).fit(rows, target="label", **weight)
    X, y = TRAIN[FEATURES], TRAIN["label"]
    other = MoDEClassifier(**QUICK).fit(X, y, TRAIN["weight"] if weighted else None)
    losses = [log_loss(y, each.predict_proba(X)) for each in (classifier, other)]
    assert losses[0] < losses[1] + 0.05
    assert repr(classifier.encoder_.columns_) == repr(other.encoder_.columns_)
    assert_array_equal(classifier.classes_, other.classes_)
    assert_array_equal(classifier.feature_names_in_, FEATURES)
    assert set(vars(classifier)) == set(vars(other))
    assert classifier.refit_n_iter_ > 0
    assert classifier.temperature_ != 1
    assert classifier.expert_usage_.sum() == pytest.approx(1)


def write_without_weight(dataset):
    return lambda: dataset.to_table().drop_columns("weight").to_batches(100)


def test_predict_and_score_in_batches(dataset):
    classifier = MoDEClassifier(**QUICK).fit(dataset, target="label", sample_weight="weight")
    X, y, weight = TRAIN[FEATURES], TRAIN["label"], TRAIN["weight"]
    for method in ("predict", "predict_proba", "gate_proba", "route", "expert_predict"):
        assert_array_equal(getattr(classifier, method)(dataset), getattr(classifier, method)(X))
    assert classifier.score(dataset, target="label") == pytest.approx(classifier.score(X, y))
    weighed = classifier.score(dataset, target="label", sample_weight="weight")
    assert weighed == pytest.approx(classifier.score(X, y, weight))
    again = pickle.loads(pickle.dumps(classifier))
    assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    probing = expert_probing(classifier, dataset, "label", sample_weight="weight")
    expected = expert_probing(classifier, X, y, sample_weight=weight)
    pd.testing.assert_frame_equal(probing.experts, expected.experts)
    confusion = route_confusion(classifier, classifier, dataset)
    pd.testing.assert_frame_equal(confusion, route_confusion(classifier, classifier, X))


def test_regression_with_two_targets(tmp_path, several_shards):
    frame = FRAME[[*FEATURES, "value"]].assign(other=FRAME["a"]).sort_values("value")
    dataset = write(tmp_path, frame)
    options = QUICK | {"balance": 0.1}
    regressor = MoDERegressor(**options).fit(dataset, target=["value", "other"])
    X, y = frame[FEATURES], frame[["value", "other"]]
    assert_allclose(regressor.target_mean_, y.mean(), rtol=1e-12)
    assert_allclose(regressor.target_scale_, y.std(ddof=0), rtol=1e-12)
    score = regressor.score(dataset, target=["value", "other"])
    assert score == pytest.approx(r2_score(y, regressor.predict(X)), abs=1e-9)
    assert score > 0.7


def test_classes_weights_and_validation_rows_as_in_memory(dataset, several_shards):
    class Counting(MoDEClassifier):
        def _make_plan(self, data, *args, **kwargs):
            self.seen = data
            return super()._make_plan(data, *args, **kwargs)

    classifier = Counting(**QUICK, class_weight="balanced", alpha="auto")
    classifier.fit(dataset, target="label", sample_weight="weight")
    assert classifier.alpha_ in (1, 10)
    data = classifier.seen
    kept = TRAIN[TRAIN["weight"] > 0]
    assert len(data.rows) == len(kept)
    assert len(data.valid) == -(-len(kept) // 10)
    share = (kept["label"] == "yes").mean()
    assert data.valid.target.double().mean() == pytest.approx(share, abs=0.01)
    assert data.valid.sample_weight.mean() == pytest.approx(1, abs=0.2)


def test_a_reservoir_where_rows_are_many(dataset, monkeypatch):
    monkeypatch.setattr("skmode._encoding.tables.batches.RESERVOIR_ROWS", 400)
    monkeypatch.setattr("skmode._encoding.tables.batches.FEWEST_RESERVOIR_ROWS", 400)
    classifier = MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(dataset, target="label")
    column = classifier.encoder_.columns_[0]
    assert column.center == pytest.approx(TRAIN["a"].median(), abs=0.15)
    assert column.scale == pytest.approx(1, abs=0.2)
    assert (column.minimum, column.maximum) == tuple(
        np.float32([TRAIN["a"].min(), TRAIN["a"].max()])
    )


def test_own_validation_rows_and_warm_start(dataset):
    X, y = TRAIN[FEATURES], TRAIN["label"]
    classifier = MoDEClassifier(**QUICK, warm_start=True)
    rows = write_without_weight(dataset)
    classifier.fit(rows, target="label", X_val=X[::5], y_val=y[::5])
    assert classifier.refit_n_iter_ == 0
    before = classifier.n_iter_
    classifier.fit(rows, target="label", X_val=X[::5], y_val=y[::5])
    assert classifier.n_iter_ > before


class Killed(BaseException):
    """Ends a training at once, as no exception of a user would."""


@pytest.mark.parametrize("step", [3, 20, 43, 70])
def test_goes_on_to_the_same_bits(dataset, several_shards, tmp_path, monkeypatch, step):
    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0)
    options = QUICK | {"alpha": "auto", "max_epochs": 4}
    arguments = {"target": "label", "sample_weight": "weight"}
    expected = MoDEClassifier(**options).fit(dataset, **arguments)

    steps = []

    def fails(net, *args, _step=checkpoints.Checkpoint.on_batch_begin, **kwargs):
        steps.append(1)
        if len(steps) == step:
            raise Killed
        _step(net, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "on_batch_begin", fails)
        with pytest.raises(Killed):
            MoDEClassifier(**options).fit(dataset, **arguments, checkpoint=tmp_path)
    found = MoDEClassifier(**options).fit(dataset, **arguments, checkpoint=tmp_path)
    assert_array_equal(found.predict_proba(dataset), expected.predict_proba(dataset))
    assert (found.n_iter_, found.refit_n_iter_) == (expected.n_iter_, expected.refit_n_iter_)
    assert_array_equal(found.loss_curve_, expected.loss_curve_)
    assert found.alpha_ == expected.alpha_
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(ValueError, match="resumed with the parameters and rows that it was"):
        MoDEClassifier(**options | {"n_experts": 3}).fit(dataset, **arguments, checkpoint=tmp_path)


def test_nothing_half_written(dataset, tmp_path, monkeypatch):
    def fails(writer):
        raise OSError(28, "No space left on device")

    arguments = {"target": "label", "checkpoint": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(stored.Writer, "close", fails)
        with pytest.raises(OSError, match="No space left"):
            MoDEClassifier(**QUICK).fit(dataset, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["fit.json"]
    # Nothing was trained, so other parameters may begin here.
    assert MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(dataset, **arguments).n_iter_ == 1


@pytest.mark.slow
def test_goes_on_after_kill_9(dataset, tmp_path):
    folder = os.path.dirname(dataset.files[0])
    code = textwrap.dedent(
        f"""
        import pyarrow.dataset as ds
        from skmode import MoDEClassifier
        from skmode._training.callbacks import checkpoints
        checkpoints.EVERY_SECONDS = 0.05
        options = {QUICK | {"max_epochs": 40, "n_iter_no_change": 40}!r}
        classifier = MoDEClassifier(**options).fit(
            ds.dataset({folder!r}), target="label", checkpoint={str(tmp_path / "state")!r}
        )
        print(classifier.n_iter_, classifier.loss_curve_[-1])
        """
    )
    command = [sys.executable, "-c", code]
    killed = subprocess.Popen(command)
    while not list((tmp_path / "state").glob("training-*.pt")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    found = subprocess.check_output(command, text=True).split()
    options = QUICK | {"max_epochs": 40, "n_iter_no_change": 40}
    expected = MoDEClassifier(**options).fit(dataset, target="label")
    assert int(found[0]) == expected.n_iter_
    assert float(found[1]) == expected.loss_curve_[-1]


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("a", 700, np.inf, r"part-1\.parquet, row 300 \(from 0\): Numbers must be .* column 'a'"),
        ("a", 10, 1e300, r"part-0\.parquet, row 10 .*at most 3\.4e\+38.*got 1e\+300 in column 'a'"),
        ("label", 1199, None, r"part-2\.parquet, row 399 .*label, got none in column 'label'"),
        ("weight", 401, -1.0, r"part-1\.parquet, row 1 .*zero or more, got -1 in column 'weight'"),
        ("weight", 401, np.nan, r"part-1\.parquet, row 1 .*zero or more, got nan in column"),
        ("value", 5, np.nan, r"part-0\.parquet, row 5 .*target, got NaN or none in column 'value'"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path, column, row, value, message):
    frame = FRAME.copy()
    frame.loc[row, column] = value
    dataset = write(tmp_path, frame)
    regresses = column == "value"
    estimator = (MoDERegressor if regresses else MoDEClassifier)(**QUICK)
    with pytest.raises(ValueError, match=message):
        estimator.fit(dataset, target="value" if regresses else "label", sample_weight="weight")
    assert not hasattr(estimator, "net_")


def test_errors_in_rows_to_predict(dataset, tmp_path):
    classifier = MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(dataset, target="label")
    frame = TRAIN.copy()
    frame.loc[500, "a"] = -np.inf
    with pytest.raises(ValueError, match=r"part-1\.parquet, row 100 .*-inf in column 'a'"):
        classifier.predict(write(tmp_path, frame))
    with pytest.raises(ValueError, match=r"columns of training must name .* got \['a'\]"):
        classifier.predict(write(tmp_path, frame.drop(columns="a")))


X, y = TRAIN[FEATURES], TRAIN["label"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ({}, {}, "A dataset needs the name of the column"),
        ({"target": "lable"}, {}, r"target must name columns of the dataset, got \['lable'\]"),
        ({"target": []}, {}, "target must name a column, or be a list"),
        ({"y": "label"}, {}, "pass target='label' and leave out y"),
        ({"target": "label", "sample_weight": np.ones(3)}, {}, "sample_weight names the column"),
        ({"target": "label", "sample_weight": "label"}, {}, "must be two columns"),
        ({"target": ["label", "whole"]}, {}, "A classifier has one target"),
        ({"target": "label", "groups": y}, {}, "groups must be left out with a dataset"),
        ({"target": "label", "soft_targets": y}, {}, "soft_targets must be left out"),
        ({"target": "label"}, {"teacher": "mixture"}, "teacher must be None with a dataset"),
        ({"target": "label"}, {"teacher": [Ridge()]}, "at once, got Ridge: set teacher=None"),
        ({"target": "label"}, {"text_features": ["c"]}, "text_features must be None"),
        ({"target": "label"}, {"image_features": ["c"]}, "image_features must be None"),
        ({"target": "label"}, {"validation_fraction": [[0], [1]]}, "must be a number with a"),
        ({"target": "a"}, {}, r"part-0\.parquet, row 0 .*Unknown label type: continuous"),
    ],
)
def test_what_is_refused_beside_a_dataset(dataset, arguments, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MoDEClassifier(**QUICK, **options).fit(dataset, **arguments)


def test_what_is_refused_elsewhere(dataset, tmp_path):
    with pytest.raises(ValueError, match="target is for a dataset"):
        MoDEClassifier(**QUICK).fit(X, y, target="label")
    with pytest.raises(ValueError, match=r"pyarrow\.dataset\.dataset\('folder'\) opens"):
        MoDEClassifier(**QUICK).fit(str(tmp_path), target="label")
    for fit in (MoDEClassifier(**QUICK).fit, MoDEClassifier(**QUICK).partial_fit):
        with pytest.raises(TypeError, match=r"got 'w': pass the column, such as table\['w'\]"):
            fit(X, y, sample_weight="w")
    with pytest.raises(ValueError, match="checkpoint is for a dataset"):
        MoDERegressor(**QUICK).fit(X, FRAME["value"], checkpoint=tmp_path)
    for estimator in (MoDEImageClassifier(), MoDETextClassifier()):
        with pytest.raises(TypeError, match="must hold its rows in memory"):
            estimator.fit(dataset, target="label")
    with pytest.raises(TypeError, match="hold its rows in memory"):
        MoDEClassifier(**QUICK).partial_fit(dataset, y)
    dates = TRAIN.assign(a=pd.Timestamp("2020-01-01"))
    with pytest.raises(ValueError, match=r"got dates .* in column 'a'"):
        MoDEClassifier(**QUICK).fit(write(tmp_path, dates), target="label")
