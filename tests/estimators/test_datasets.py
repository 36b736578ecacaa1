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
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss, r2_score

from skmode import MoDEClassifier, MoDEImageClassifier, MoDERegressor, MoDETextClassifier
from skmode._encoding.tables.batches import Reservoir
from skmode._training.callbacks import checkpoints
from skmode._training.rows import stored
from skmode.inspection import alpha_path, compare, expert_attention, expert_probing, route_confusion

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


def test_far_targets_do_not_scale_the_others(tmp_path):
    frame = FRAME[[*FEATURES, "value", "weight"]].copy()
    frame.loc[::97, "value"] = 1e9
    dataset = write(tmp_path, frame)
    options = QUICK | {"max_epochs": 1, "loss": "huber"}
    found = MoDERegressor(**options).fit(dataset, target="value", sample_weight="weight")
    expected = MoDERegressor(**options).fit(frame[FEATURES], frame["value"], frame["weight"])
    assert_allclose(found.target_mean_, expected.target_mean_)
    assert_allclose(found.target_scale_, expected.target_scale_)
    assert found.target_scale_ < 1000


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


def test_a_reservoir_of_many_small_batches(monkeypatch):
    """Batches whose values it does not keep leave nothing in it."""
    monkeypatch.setattr("skmode._encoding.tables.batches.MOST_PARTS", 8)
    rng = np.random.default_rng(0)
    few, many = Reservoir("a", 10), Reservoir("a", 10)
    values, keys = rng.normal(size=600), rng.random(600)
    few.learn(values, keys, None)
    for i in range(600):
        many.learn(values[i : i + 1], keys[i : i + 1], None)
        assert len(many._parts) <= 9
    assert_array_equal(many.drawn(), few.drawn())


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


def test_a_folder_of_other_rows_is_refused(tmp_path):
    """Although their files have the same names, columns and sizes."""
    options = QUICK | {"max_epochs": 1}
    X, y = TRAIN.drop(columns="label"), TRAIN["label"]

    def opened(frame, kind):
        table = pa.Table.from_pandas(frame, preserve_index=False)
        if kind == "memory":
            return ds.dataset(table)
        pa.feather.write_feather(table, tmp_path / "rows.feather", compression="uncompressed")
        found = ds.dataset(tmp_path / "rows.feather", format="feather")
        return ds.dataset([found]) if kind == "union" else found

    for kind in ("file", "union", "memory"):
        arguments = {"target": "label", "checkpoint": tmp_path / kind}
        MoDEClassifier(**options).fit(opened(TRAIN, kind), **arguments)
        MoDEClassifier(**options).fit(opened(TRAIN, kind), **arguments)
        with pytest.raises(ValueError, match="has others: pass those, or another folder"):
            MoDEClassifier(**options).fit(opened(TRAIN.assign(a=-TRAIN["a"]), kind), **arguments)
    arguments = {"target": "label", "X_val": X[:90], "y_val": y[:90]}
    with pytest.raises(ValueError, match="has others: pass those, or another folder"):
        MoDEClassifier(**options).fit(
            opened(TRAIN, "file"), **arguments, checkpoint=tmp_path / "file"
        )
    arguments["checkpoint"] = tmp_path / "own"
    MoDEClassifier(**options).fit(opened(TRAIN, "file"), **arguments)
    MoDEClassifier(**options).fit(opened(TRAIN, "file"), **arguments)
    with pytest.raises(ValueError, match="has others: pass those, or another folder"):
        MoDEClassifier(**options).fit(opened(TRAIN, "file"), **arguments | {"y_val": y[::-1][:90]})


def test_what_is_left_of_another_fit_is_not_gone_on_with(dataset, tmp_path):
    """Somebody deleted the rows, because they are large, and left the training."""
    arguments = {"target": "label", "checkpoint": tmp_path}
    MoDEClassifier(**QUICK).fit(dataset, **arguments)
    for name in ("rows.bin", "rows.pickle"):
        (tmp_path / name).unlink()
    options = QUICK | {"learning_rate": 0.1, "max_epochs": 2}
    found = MoDEClassifier(**options).fit(dataset, **arguments)
    assert found.loss_curve_ == MoDEClassifier(**options).fit(dataset, target="label").loss_curve_


def test_many_classes_are_no_regression(recwarn):
    """Of a block, scikit-learn sees each label once, and would warn."""
    table = pa.table({"a": np.arange(90.0), "label": np.arange(90) % 30})
    MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(ds.dataset(table), target="label")
    assert not [each for each in recwarn if "regression problem" in str(each.message)]


def test_what_is_printed_may_change_after_a_kill(dataset, tmp_path):
    options = QUICK | {"max_epochs": 2}
    arguments = {"target": "label", "checkpoint": tmp_path}
    first = MoDEClassifier(**options).fit(dataset, **arguments)
    again = MoDEClassifier(**options, verbose=1).fit(dataset, **arguments)
    assert_array_equal(again.predict_proba(dataset), first.predict_proba(dataset))


@pytest.mark.parametrize("name", ["fit.json", "rows.pickle", "rows.bin", "training-*.pt"])
def test_a_torn_file_of_a_checkpoint_is_named(dataset, tmp_path, name):
    options = QUICK | {"max_epochs": 1}
    arguments = {"target": "label", "checkpoint": tmp_path}
    MoDEClassifier(**options).fit(dataset, **arguments)
    (path,) = tmp_path.glob(name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"must be whole.*{path.name}.*delete"):
        MoDEClassifier(**options).fit(dataset, **arguments)


def test_a_checkpoint_that_is_no_folder(dataset, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"checkpoint must name a folder, or one .*file"):
        MoDEClassifier(**QUICK).fit(dataset, target="label", checkpoint=tmp_path / "file")
    with pytest.raises(TypeError, match="checkpoint must name a folder, got 3"):
        MoDEClassifier(**QUICK).fit(dataset, target="label", checkpoint=3)


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
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as here: bits depend on it
    killed = subprocess.Popen(command, env=environment)
    while not list((tmp_path / "state").glob("training-*.pt")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    found = subprocess.check_output(command, text=True, env=environment).split()
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


@pytest.mark.parametrize("filtered", [False, True])
def test_files_of_other_types(tmp_path, filtered):
    """Missing values without a type come first, and numbers become wider."""
    frame = TRAIN[[*FEATURES, "label"]].copy()
    frame["whole"] += np.where(np.arange(len(frame)) < 400, 0, 0.5)
    write(tmp_path, frame[400:], n_files=2)
    first = frame[:400].assign(c=None, whole=frame["whole"][:400].astype(np.int8))
    pq.write_table(pa.Table.from_pandas(first, preserve_index=False), tmp_path / "a.parquet")
    dataset = ds.dataset(tmp_path)
    if filtered:
        dataset = dataset.filter(ds.field("whole") >= 0)
    classifier = MoDEClassifier(**QUICK).fit(dataset, target="label")
    other = MoDEClassifier(**QUICK).fit(
        frame.assign(c=frame["c"].where(frame.index >= 400))[FEATURES], frame["label"]
    )
    assert repr(classifier.encoder_.columns_) == repr(other.encoder_.columns_)
    pq.write_table(
        pa.Table.from_pandas(first.drop(columns="whole"), preserve_index=False),
        tmp_path / "b.parquet",
    )
    dataset = ds.dataset(tmp_path)
    if filtered:
        dataset = dataset.filter(ds.field("a") > 0)
    with pytest.raises(ValueError, match=r"got none named 'whole' in File .*b\.parquet"):
        classifier.fit(dataset, target="label")


def test_a_filter_on_folders(tmp_path):
    table = pa.Table.from_pandas(FRAME[[*FEATURES, "label"]], preserve_index=False)
    pq.write_to_dataset(table, tmp_path, partition_cols=["whole"])
    dataset = ds.dataset(tmp_path, partitioning="hive").filter(
        (ds.field("whole") > 2) & (ds.field("a") > 0)
    )
    regressor = MoDERegressor(**QUICK | {"max_epochs": 1}).fit(
        dataset.filter(ds.field("label") == "no"), target="a"
    )
    kept = FRAME[(FRAME["whole"] > 2) & (FRAME["a"] > 0) & (FRAME["label"] == "no")]
    assert_allclose(regressor.target_mean_, kept["a"].mean())
    assert list(regressor.feature_names_in_) == ["b", "c", "label", "whole"]


def test_classes_of_several_widths(tmp_path):
    """The last file has the narrowest type."""
    for i, (low, kind) in enumerate([(-1, np.int16), (0, np.float64), (1000, np.int64), (1, "u1")]):
        rows = {"a": np.arange(20.0), "label": np.repeat([low, 1], 10).astype(kind)}
        pq.write_table(pa.table(rows), tmp_path / f"part-{i}.parquet")
    classifier = MoDEClassifier(**QUICK).fit(ds.dataset(tmp_path), target="label")
    assert_array_equal(classifier.classes_, [-1, 0, 1, 1000])


def test_functions_that_fail(dataset):
    def breaks():
        yield from dataset.to_batches()
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone") as caught:
        MoDEClassifier(**QUICK).fit(breaks, target="label")
    assert caught.value.__notes__ == ["It came from the function breaks, after 3 batches."]
    reader = dataset.scanner().to_reader()
    with pytest.raises(ValueError, match="let it open its batches anew at each call"):
        MoDEClassifier(**QUICK).fit(lambda: reader, target="label")
    twice = pa.RecordBatch.from_arrays([pa.array([1.0])] * 3, names=["a", "a", "label"])
    with pytest.raises(ValueError, match="Column names must be unique"):
        MoDEClassifier(**QUICK).fit(lambda: [twice], target="label")


def test_scores_that_are_not_defined(tmp_path):
    frame = FRAME[["a", "value"]].assign(none=0.0)
    dataset = ds.dataset(pa.Table.from_pandas(frame))
    model = MoDERegressor(**QUICK | {"max_epochs": 1}).fit(frame[["a"]], frame["value"])
    with pytest.raises(ValueError, match="needs a positive sample_weight, got zeros only"):
        model.score(dataset, target="value", sample_weight="none")
    with pytest.warns(UndefinedMetricWarning, match="at least two rows, got one"):
        found = model.score(ds.dataset(pa.Table.from_pandas(frame[:1])), target="value")
    assert np.isnan(found)
    with pytest.raises(ValueError, match=r"as many columns as in fit, 1, got \['value', 'none'\]"):
        model.score(dataset, target=["value", "none"])


def test_labels_of_another_kind_are_no_misses(dataset, tmp_path):
    classifier = MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(dataset, target="label")
    other = write(tmp_path, TRAIN.assign(label=1))
    with pytest.raises(ValueError, match=r"part-0\.parquet, row 0 .*kind of classes_.*got \[1\]"):
        classifier.score(other, target="label")


X, y = TRAIN[FEATURES], TRAIN["label"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ({}, {}, "A dataset needs the name of the column"),
        ({"target": "lable"}, {}, r"target must name columns of the dataset, got \['lable'\]"),
        ({"target": []}, {}, "target must name a column, or be a list"),
        ({"target": 3}, {}, "target must name a column, or be a list"),
        ({"target": ["a", "a"]}, {}, "be a list of different names"),
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
    classifier = MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(X, y)
    for inspect in (alpha_path, expert_attention, compare):
        with pytest.raises(TypeError, match=r"pass a sample of it, for example dataset\.head"):
            inspect(classifier, dataset, y)
    dates = TRAIN.assign(a=pd.Timestamp("2020-01-01"))
    with pytest.raises(ValueError, match=r"got dates .* in column 'a'"):
        MoDEClassifier(**QUICK).fit(write(tmp_path, dates), target="label")
