import hashlib
import json
import os
import subprocess
import sys
import warnings
from unittest import mock

import joblib
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnx.reference import ReferenceEvaluator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx import export
from skmode_deploy import bundle
from skmode_deploy.bundle import files as _files
from skmode_deploy.samples import graph_inputs

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

BATCHES = (1, 2, 7, 1000)
TOLERANCE = 1e-5


def assert_classifier_parity(estimator, predictor, X, batches=BATCHES):
    for n_rows in batches:
        rows = X[:n_rows]
        label, probabilities, expert, gate_probability = predictor.predict_full(rows)
        assert_allclose(probabilities, estimator.predict_proba(rows), rtol=0, atol=TOLERANCE)
        assert_array_equal(label, estimator.predict(rows))
        assert_array_equal(expert, estimator.route(rows))
        top = estimator.gate_proba(rows).max(axis=1)
        assert_allclose(gate_probability, top, rtol=0, atol=TOLERANCE)
        assert label.dtype == estimator.classes_.dtype
        assert_array_equal(predictor.predict(rows), label)
        assert_array_equal(predictor.predict_proba(rows), probabilities)
        assert_array_equal(predictor.route(rows), expert)


def assert_regressor_parity(estimator, predictor, X, batches=BATCHES):
    scale = np.max(estimator.target_scale_)
    for n_rows in batches:
        rows = X[:n_rows]
        value, probabilities, expert, _ = predictor.predict_full(rows)
        expected = estimator.predict(rows)
        assert value.shape == expected.shape
        assert value.dtype == np.float32
        assert probabilities is None
        assert_allclose(value, expected, rtol=TOLERANCE, atol=TOLERANCE * scale)
        assert_array_equal(expert, estimator.route(rows))


@pytest.mark.parametrize("n_experts", [1, 2, 8, pytest.param(64, marks=pytest.mark.slow)])
def test_top_expert_parity(n_experts, array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, n_experts=n_experts, inference="top_expert")
    export(estimator, tmp_path)
    assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), array)


@pytest.mark.slow
@pytest.mark.parametrize("n_experts", [1, 2, 8])
@pytest.mark.parametrize("mixing", ["representation", "likelihood", "expected"])
@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize("gate", ["dense", "sparse"])
def test_parity_of_gates_and_mixings(
    gate, routing, mixing, n_experts, array, fit_classifier, fit_regressor, tmp_path
):
    params = {
        "gate": gate,
        "top_k": min(2, n_experts),
        "mixing": mixing,
        "n_experts": n_experts,
        "inference": routing,
        "gate_temperature": 2.0,
        "gate_hidden_layer_sizes": (7,),
    }
    classifier = fit_classifier(array, **params)
    export(classifier, tmp_path, routing=routing)
    assert_classifier_parity(classifier, skmode_deploy.load(tmp_path), array)
    regressor = fit_regressor(array, n_outputs=2, **params)
    export(regressor, tmp_path, routing=routing)
    assert_regressor_parity(regressor, skmode_deploy.load(tmp_path), array)


@pytest.mark.parametrize("top_k", [1, 3])
def test_sparse_gate_with_one_and_all_experts(top_k, array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, gate="sparse", top_k=top_k, n_experts=3)
    export(estimator, tmp_path, routing="mixture")
    assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), array)


@pytest.mark.parametrize(
    "embedding",
    [
        "periodic_bias",
        *(pytest.param(k, marks=pytest.mark.slow) for k in (None, "periodic", "piecewise_linear")),
    ],
)
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "logistic", "identity"])
def test_parity_of_embeddings_and_activations(
    embedding, activation, array, fit_classifier, tmp_path
):
    estimator = fit_classifier(
        array,
        numeric_embedding=embedding,
        activation=activation,
        gate_hidden_layer_sizes=(4,),
        inference="top_expert",
    )
    export(estimator, tmp_path)
    assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), array)


def test_manifest_has_the_chosen_alpha(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, alpha="auto")
    export(estimator, tmp_path)
    assert skmode_deploy.load(tmp_path).manifest.alpha == estimator.alpha_


def test_piecewise_linear_embedding_of_a_column_with_one_bin(fit_classifier, tmp_path):
    rng = np.random.default_rng(0)
    train = np.column_stack([np.ones(300), rng.normal(size=300), rng.integers(0, 3, 300)])
    estimator = fit_classifier(train, numeric_embedding="piecewise_linear")
    export(estimator, tmp_path, routing="mixture")
    new = rng.normal(size=(50, 3)) * 5
    assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), new, [1, 50])


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_regressor_parity(n_outputs, array, fit_regressor, tmp_path):
    estimator = fit_regressor(array, n_outputs, n_experts=8, inference="top_expert")
    export(estimator, tmp_path)
    assert_regressor_parity(estimator, skmode_deploy.load(tmp_path), array)


def test_huge_and_tiny_numbers(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, inference="top_expert")
    export(estimator, tmp_path)
    rows = np.array([[1e30, -3e38, 1e-45, 0, np.nan], [-1e30, 3e38, -1e20, 1e10, 1e5]])
    assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), rows, [1, 2])


def test_double_precision_weights_become_single(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, precision="float64", inference="top_expert")
    export(estimator, tmp_path)
    assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), array)


@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
def test_all_rows_to_one_expert(routing, array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, n_experts=8, inference=routing)
    with torch.no_grad():
        estimator.net_.module_.gate.layers[-1].bias[5] += 1e4
    export(estimator, tmp_path, routing=routing)
    predictor = skmode_deploy.load(tmp_path)
    assert_array_equal(predictor.route(array), np.full(len(array), 5))
    assert_classifier_parity(estimator, predictor, array)


@pytest.mark.parametrize("gate", ["dense", "sparse"])
@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize("n_experts", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_empty_batch(
    gate, routing, n_experts, array, table, fit_classifier, fit_regressor, tmp_path
):
    params = {"gate": gate, "n_experts": n_experts, "top_k": min(2, n_experts)}
    export(fit_classifier(table, **params), tmp_path, routing=routing)
    label, probabilities, expert, gate_probability = skmode_deploy.load(tmp_path).predict_full(
        table[:0]
    )
    assert gate_probability.shape == (0,)
    assert (label.shape, probabilities.shape, expert.shape) == ((0,), (0, 3), (0,))
    assert (label.dtype.kind, probabilities.dtype, expert.dtype) == ("U", np.float32, np.int64)
    outputs = run(tmp_path / "gate.onnx", skmode_deploy.load(tmp_path)._inputs(table[:0]))
    assert outputs["gate_probabilities"].shape == (0, n_experts)
    answer = run(tmp_path / "expert_0.onnx", {"hidden": outputs["hidden"]})
    assert answer["probabilities"].shape == (0, 3)
    export(fit_regressor(array, 2, **params), tmp_path, routing=routing)
    value = skmode_deploy.load(tmp_path).predict(array[:0])
    assert (value.shape, value.dtype) == ((0, 2), np.float32)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [
        (["no", "yes"], "value"),
        (np.array(["no", "Ünïcode"], dtype=object), "value"),
        ([0, 1, 2], "value"),
        (np.array([-7, 3, 2**40]), "value"),
        (np.array([1, 5], dtype=np.uint8), "value"),
        ([False, True], "index"),
        ([2.0, 1.0], "index"),
        (["only"], "value"),
    ],
)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_labels_of_any_type(classes, kind, array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, classes=classes, inference="top_expert")
    export(estimator, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    assert predictor.manifest.classes.label == kind
    assert_classifier_parity(estimator, predictor, array, [1, 50])


@pytest.mark.parametrize("dtype", ["M8[D]", "M8[us]", "M8[ns]", "m8[s]", "S"])
def test_labels_neither_string_nor_number_raise(dtype, array, fit_classifier, tmp_path):
    estimator = fit_classifier(array[:50])
    labels = np.array(["1", "2", "3"] if dtype == "S" else [1, 2, 3]).astype(dtype)
    with (
        mock.patch.object(estimator, "classes_", labels),
        pytest.raises(TypeError, match=r"must be strings, integers.* got .*encode the labels as"),
    ):
        export(estimator, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


FEW_STEPS = {"n_experts": 2, "max_epochs": 1, "inference": "top_expert", "random_state": 0}


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_targets_too_far_from_zero_for_float32(n_outputs, array, tmp_path):
    y = np.random.default_rng(0).normal(size=(200, n_outputs))
    y[:, -1] += 1e7
    y = y[:, 0] if n_outputs == 1 else y
    estimator = MoDERegressor(**FEW_STEPS).fit(array[:200], y)
    message = rf"float32.*got 1\.\d for output {n_outputs - 1} .*subtract a constant from y"
    with pytest.warns(UserWarning, match=message) as record:
        export(estimator, tmp_path)
    assert [warning.filename for warning in record] == [__file__]


@pytest.mark.parametrize("shift", [0, -1e3, 8e3])
def test_targets_within_float32(shift, array, tmp_path):
    y = np.random.default_rng(0).normal(size=200)
    estimator = MoDERegressor(**FEW_STEPS).fit(array[:200], y + shift)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(estimator, tmp_path)


def test_table_parity(table, fit_classifier, fit_regressor, tmp_path):
    """Strings, numeric categories, missing values, and a column called like an output."""
    classifier = fit_classifier(table, inference="top_expert")
    export(classifier, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    assert_classifier_parity(classifier, predictor, table, [1, 2, 7, 400])
    by_name = {column.name: column for column in predictor.manifest.columns}
    assert by_name["city"].categories == ("Bern", "Köln", "a b/c", "Łódź")
    assert by_name["city"].has_missing
    assert by_name["plan"].dtype == "float64"
    assert by_name["label"].input == "label_input"
    regressor = fit_regressor(table, inference="top_expert")
    export(regressor, tmp_path)
    assert_regressor_parity(regressor, skmode_deploy.load(tmp_path), table, [1, 2, 7, 400])


def test_unseen_categories_and_missing_values(table, fit_classifier, tmp_path):
    estimator = fit_classifier(table, inference="top_expert")
    export(estimator, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    new = table[:8].copy()
    new["city"] = ["Bern", "Paris", None, np.nan, "", pd.NA, "bern", "Łódź"]
    new["plan"] = [1.5, 99.0, np.nan, 2.0**52, 2.0**52 + 1, 2.25, -1.5, 0.0]
    new["label"] = ["x", None, "z", "", "y", "x", "x", "x"]  # no missing values in training
    new["income"] = np.nan
    assert_classifier_parity(estimator, predictor, new, [8])
    for i in range(8):
        assert_classifier_parity(estimator, predictor, new[i : i + 1], [1])


@pytest.mark.parametrize("to_table", [pl.from_pandas, lambda frame: frame.to_dict("list")])
def test_other_tables(to_table, table, fit_classifier, tmp_path):
    frame = table.astype({"plan": float}).drop(columns="member")
    estimator = fit_classifier(frame, categorical_features=["city", "plan", "label"])
    export(estimator, tmp_path, routing="mixture")
    predictor = skmode_deploy.load(tmp_path)
    assert_array_equal(predictor.predict(to_table(frame)), estimator.predict(frame))


STRINGS = ["Bern", None, "Paris", "", "Köln", None, "Bern"] * 30
NUMBERS = [1.5, None, 3.0, 2.0, None, 1.5, 9.0] * 30


def _arrow_backed(array):
    return pd.Series(array, dtype=pd.ArrowDtype(array.type))


@pytest.mark.parametrize("name", ["city", "plan"])
@pytest.mark.parametrize("has_missing", [True, False])
def test_columns_with_missing_values_in_all_encodings(name, has_missing, fit_classifier, tmp_path):
    """They are read like the estimator reads them, whatever the type in training."""
    plain = {"city": STRINGS, "plan": NUMBERS, "age": NUMBERS[::-1]}
    known = pd.DataFrame(plain) if has_missing else pd.DataFrame(plain).bfill().fillna(1.0)
    estimator = fit_classifier(known, categorical_features=["city", "plan"], inference="top_expert")
    export(estimator, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    arrow = pa.array(plain[name])
    dictionary = arrow.dictionary_encode()
    shuffled = pa.DictionaryArray.from_arrays(  # a null among the categories
        pa.array([0 if v is None else 1 + (v == plain[name][0]) * 2 for v in plain[name]]),
        pa.array([None, plain[name][2], plain[name][3], plain[name][0]]),
    )
    columns = [
        (pa.table, pa.chunked_array([dictionary[:5], dictionary[5:]])),
        (pa.table, arrow),
        (pa.table, shuffled),
        (pa.RecordBatch.from_pydict, dictionary),
        (pd.DataFrame, _arrow_backed(arrow)),
        (pd.DataFrame, _arrow_backed(dictionary)),
        (pd.DataFrame, pd.Series(plain[name], dtype="category")),
        (pd.DataFrame, pd.Series(plain[name], dtype="string" if name == "city" else "Float64")),
        (pl.DataFrame, pl.Series(plain[name])),
    ]
    if name == "city":
        enum = pl.Enum(["Paris", "", "Köln", "Bern"])
        columns += [
            (pl.DataFrame, pl.Series(STRINGS, dtype=dtype)) for dtype in (pl.Categorical, enum)
        ]
    for make, column in columns:
        rows = make({**plain, name: column})
        assert_classifier_parity(estimator, predictor, rows, [len(STRINGS)])
        assert_array_equal(
            predictor.predict_proba({**plain, name: column}), predictor.predict_proba(rows)
        )


def test_arrow_dictionaries_for_a_model_of_arrays(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, inference="top_expert")
    export(estimator, tmp_path)
    columns = [pa.array(column, from_pandas=True).dictionary_encode() for column in array.T]
    rows = pa.table(columns, names=list("abcde"))
    predictor = skmode_deploy.load(tmp_path)
    for table in (rows, rows.to_batches()[0]):
        assert_array_equal(predictor.predict_proba(table), predictor.predict_proba(array))


def test_categories_in_an_array(fit_classifier, tmp_path):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=300), rng.choice([0.1, 2.0, np.nan], 300)])
    X = np.column_stack([X, rng.integers(0, 4, 300)])
    estimator = fit_classifier(X, categorical_features=[1, 2])
    export(estimator, tmp_path, routing="mixture")
    predictor = skmode_deploy.load(tmp_path)
    assert predictor.manifest.input == "array"
    X[:3, 2] = [17, -1, np.nan]
    assert_classifier_parity(estimator, predictor, X, [1, 300])
    only = fit_classifier(X[:, 1:], categorical_features=[0, 1])
    export(only, tmp_path, routing="mixture")
    assert_classifier_parity(only, skmode_deploy.load(tmp_path), X[:, 1:], [1, 300])


def test_strings_in_an_array(fit_classifier, tmp_path):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=300), rng.choice(["a", "b", ""], 300)]).astype(object)
    X[:, 0] = X[:, 0].astype(float)
    estimator = fit_classifier(X, categorical_features=[1])
    export(estimator, tmp_path, routing="mixture")
    assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), X, [1, 300])


def test_categories_that_float32_cannot_tell_apart_are_refused(fit_classifier, tmp_path):
    X = np.column_stack([np.arange(300) % 2 + 2.0**30, np.arange(300)])
    estimator = fit_classifier(X, categorical_features=[0])
    with pytest.raises(ValueError, match=r"must differ as float32.*'x0'.*DataFrame"):
        export(estimator, tmp_path)


@pytest.mark.parametrize("n_experts", [2, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("gate", ["dense", "sparse"])
def test_separate_gate_and_expert_graphs(
    gate, n_experts, array, table, fit_classifier, fit_regressor, tmp_path
):
    params = {"gate": gate, "top_k": 2, "n_experts": n_experts}
    for X, estimator in [
        (table, fit_classifier(table, **params)),
        (array, fit_regressor(array, 2, **params)),
    ]:
        export(estimator, tmp_path)
        predictor = skmode_deploy.load(tmp_path)
        outputs = run(tmp_path / "gate.onnx", graph_inputs(predictor.manifest, X))
        assert_allclose(
            outputs["gate_probabilities"], estimator.gate_proba(X), rtol=0, atol=TOLERANCE
        )
        assert_array_equal(outputs["expert"], estimator.route(X))
        for i in range(n_experts):
            answer = run(tmp_path / f"expert_{i}.onnx", {"hidden": outputs["hidden"]})
            if isinstance(estimator, MoDEClassifier):
                expected = estimator.expert_predict_proba(X)[:, i]
                assert_allclose(answer["probabilities"], expected, rtol=0, atol=TOLERANCE)
            else:
                expected = estimator.expert_predict(X)[:, i]
                assert_allclose(answer["variable"], expected, rtol=1e-4, atol=1e-4)


def run(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.mark.parametrize("gate", ["dense", "sparse"])
@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize("n_rows", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_reference_evaluator_agrees(gate, routing, n_rows, table, fit_classifier, tmp_path):
    estimator = fit_classifier(table, gate=gate)
    export(estimator, tmp_path, routing=routing)
    predictor = skmode_deploy.load(tmp_path)
    inputs = graph_inputs(predictor.manifest, table[:n_rows])
    evaluator = ReferenceEvaluator(str(tmp_path / "model.onnx"))
    label, probabilities, expert, gate_probability = evaluator.run(None, inputs)
    expected = predictor.predict_full(table[:n_rows])
    assert_array_equal(label, expected.value)
    assert_allclose(probabilities, expected.probabilities, rtol=0, atol=TOLERANCE)
    assert_array_equal(expert, expected.expert)
    gate_proba = estimator.gate_proba(table[:n_rows]).max(axis=1)
    assert_allclose(gate_probability, gate_proba, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
def test_models_are_portable(routing, table, fit_classifier, tmp_path):
    """Stock operators, an opset of 2022, no external data, readable names, symbolic batch."""
    export(fit_classifier(table, alpha=0.5, n_experts=4), tmp_path, routing=routing)
    paths = sorted(tmp_path.glob("*.onnx"))
    assert [path.name for path in paths] == [
        *(f"expert_{i}.onnx" for i in range(4)), "gate.onnx", "model.onnx",
    ]  # fmt: skip
    for path in paths:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        versions = {opset.domain: opset.version for opset in model.opset_import}
        assert versions in ({"": 18}, {"": 18, "ai.onnx.ml": 3})
        assert model.ir_version == 8
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml"}
        assert all(tensor.data_location == 0 for tensor in model.graph.initializer)
        assert all(node.name and not node.name.isdigit() for node in model.graph.node)
        for value in [*model.graph.input, *model.graph.output]:
            assert value.type.tensor_type.shape.dim[0].dim_param == "n"
    properties = {item.key: item.value for item in model.metadata_props}
    assert properties.pop("producer_version") == model.producer_version
    assert properties == {
        "producer": "skmode",
        "task": "classification",
        "classes": '["bad", "fair", "good"]',
        "alpha": "0.5",
        "n_experts": "4",
        "routing": routing,
    }
    assert [value.name for value in model.graph.input] == [
        "age", "income", "member", "city", "plan", "label_input",
    ]  # fmt: skip
    assert [value.name for value in model.graph.output] == [
        "label", "probabilities", "expert", "gate_probability",
    ]  # fmt: skip


def test_column_names_do_not_collide_with_values_of_the_graph(array, fit_classifier, tmp_path):
    names = ["trunk", "scaler/center", "hidden", "hidden_input", "routing/outputs"]
    frame = pd.DataFrame(array, columns=names)
    estimator = fit_classifier(frame, inference="top_expert")
    export(estimator, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    assert len({column.input for column in predictor.manifest.columns}) == 5
    assert_classifier_parity(estimator, predictor, frame)


def test_weights_are_stored_once(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, n_experts=8, hidden_layer_sizes=(128, 128))
    export(estimator, tmp_path)
    n_weights = sum(weight.numel() for weight in estimator.net_.module_.parameters())
    assert (tmp_path / "model.onnx").stat().st_size < 4 * n_weights * 1.05 + 50_000


@pytest.mark.slow
def test_export_is_reproducible(table, fit_classifier, tmp_path):
    """Another process, with another hash seed, writes the same bytes."""
    joblib.dump(fit_classifier(table), tmp_path / "estimator.joblib")
    command = "import joblib, sys; from skmode.onnx import export; "
    command += "export(joblib.load(sys.argv[1]), sys.argv[2])"
    for name, seed in (("one", "1"), ("two", "2")):
        subprocess.run(
            [sys.executable, "-c", command, tmp_path / "estimator.joblib", tmp_path / name],
            env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONHASHSEED": seed},
            check=True,
        )
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names >= {"model.onnx", "gate.onnx", "expert_2.onnx", "manifest.json", "README.md"}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    manifest = bundle.read(tmp_path / "one")
    assert manifest.created == "2023-11-14T22:13:20Z"


def test_manifest(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, n_experts=2, early_stopping=True)
    export(estimator, tmp_path / "new" / "folder", notes="For the trial of May.")
    document = json.loads((tmp_path / "new/folder/manifest.json").read_text())
    assert document["schema_version"] == bundle.SCHEMA_VERSION
    assert document["task"] == "classification"
    assert document["routing"] == "top_expert"
    assert document["n_experts"] == 2
    assert_allclose(document["expert_usage"], estimator.expert_usage_)
    assert document["validation_scores"] == pytest.approx(estimator.validation_scores_)
    assert document["classes"]["values"] == ["bad", "fair", "good"]
    assert document["notes"] == "For the trial of May."
    assert document["versions"].keys() >= {"skmode", "onnx", "onnxruntime", "torch"}
    assert [column["name"] for column in document["columns"]] == [f"x{i}" for i in range(5)]
    for name, limit in (("minimum", np.nanmin), ("maximum", np.nanmax)):
        ranges = [column[name] for column in document["columns"]]
        assert_allclose(ranges, limit(array, axis=0), rtol=1e-6)
    for name, entry in document["files"].items():
        data = (tmp_path / "new/folder" / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_failure_leaves_the_old_bundle(array, fit_classifier, tmp_path, monkeypatch):
    target = tmp_path / "bundle"
    export(fit_classifier(array, n_experts=2), target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def fail(path, data, write=_files._write_file):
        if path.name == "expert_1.onnx":
            raise OSError("disk full")
        write(path, data)

    monkeypatch.setattr(_files, "_write_file", fail)
    with pytest.raises(OSError, match="disk full"):
        export(fit_classifier(array, n_experts=3), target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("make", [MoDEClassifier, MoDERegressor])
def test_unfitted_estimator_is_refused(make, tmp_path):
    with pytest.raises(NotFittedError, match="call fit before export"):
        export(make(), tmp_path)


def test_other_estimators_raise(tmp_path):
    with pytest.raises(TypeError, match="must be a MoDEClassifier or a MoDERegressor"):
        export(LogisticRegression(), tmp_path)


@pytest.mark.slow
def test_missing_skmode_deploy_raises():
    code = "import sys; sys.modules['skmode_deploy'] = None; import skmode, skmode.onnx"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "run `pip install ./deploy`" in result.stderr


def test_unknown_routing_is_refused(array, fit_classifier, tmp_path):
    with pytest.raises(ValueError, match=r'routing must be "top_expert" or "mixture", got "?.best'):
        export(fit_classifier(array), tmp_path, routing="best")


def test_sparse_rows(tmp_path):
    rng = np.random.default_rng(0)
    X = scipy.sparse.coo_array(rng.random((200, 6)) * (rng.random((200, 6)) < 0.4))
    estimator = MoDEClassifier(
        n_experts=2, max_epochs=2, inference="top_expert", random_state=0
    ).fit(X, X.toarray()[:, 0] > 0)
    export(estimator, tmp_path, X=X, quantize="dynamic", tolerance=1.0)
    export(estimator, tmp_path, X=X)
    predictor = skmode_deploy.load(tmp_path)
    assert_classifier_parity(estimator, predictor, X.toarray().astype(np.float32))


def test_sparse_columns_of_a_table(tmp_path):
    rng = np.random.default_rng(0)
    text = pd.DataFrame({"city": rng.choice(list("abcd"), 200)})
    X = pd.get_dummies(text, sparse=True).assign(size=rng.normal(size=200))
    estimator = MoDEClassifier(
        n_experts=2, max_epochs=2, inference="top_expert", random_state=0
    ).fit(X, text.city < "c")
    export(estimator, tmp_path, X=X)
    dense = pd.get_dummies(text).assign(size=X["size"])
    for rows in (X, dense):
        assert_classifier_parity(estimator, skmode_deploy.load(tmp_path), rows)


def test_bundle_names_the_teacher_and_holds_none_of_it(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = (X[:, 0] > 0).astype(int)
    options = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}
    taught = MoDEClassifier(**options, teacher=LogisticRegression(), keep_teacher=True).fit(X, y)
    plain = MoDEClassifier(**options).fit(X, y)
    for name, estimator in {"plain": plain, "taught": taught}.items():
        export(estimator, tmp_path / name, X=X)
    manifest = bundle.read(tmp_path / "taught")
    assert manifest.teacher.names == ("LogisticRegression",)
    assert manifest.teacher.losses == taught.teacher_scores_["loss"]
    assert "LogisticRegression" in (tmp_path / "taught" / "README.md").read_text()
    assert bundle.read(tmp_path / "plain").teacher is None
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("plain", "taught")]
    assert sizes[1] < 1.05 * sizes[0]
    predictor = skmode_deploy.load(tmp_path / "taught")
    assert_allclose(
        predictor.predict_proba(X),
        taught.set_params(inference="top_expert").predict_proba(X),
        atol=TOLERANCE,
    )
