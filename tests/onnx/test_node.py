"""Node.js predicts the same as Python."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skmode.onnx
import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.datasets import fetch_churn, fetch_rdatasets, get_data_home

SNIPPET = Path(__file__).parents[2] / "deploy" / "node"
N_ROWS = 1000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("node") and shutil.which("npm")), reason="needs node and npm"
    ),
]


@pytest.fixture(scope="session")
def node_modules():
    """What package-lock.json names, kept beside the datasets from run to run."""
    digest = hashlib.sha256((SNIPPET / "package-lock.json").read_bytes()).hexdigest()
    target = get_data_home() / f"node-{digest[:16]}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SNIPPET / name, folder)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
            fresh = Path(folder) / "complete"
            fresh.mkdir()
            (Path(folder) / "node_modules").rename(fresh / "node_modules")
            try:
                fresh.rename(target)
            except OSError:  # another run was faster
                assert target.exists()
    return target / "node_modules"


@pytest.fixture
def ask_node(node_modules, tmp_path):
    """Run the snippet on a bundle and a file."""
    (tmp_path / "node_modules").symlink_to(node_modules)
    for name in ("predict.mjs", "tokenizer.mjs"):
        shutil.copy(SNIPPET / name, tmp_path)

    def ask(bundle, rows):
        command = ["node", "predict.mjs", str(bundle), str(rows)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return ask


def answers(result):
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return {name: [row[name] for row in rows] for name in rows[0]}


def write(X, path):
    """Write a table; JSON has null for missing values."""
    if path.suffix == ".csv":
        X.to_csv(path, index=False)
    else:
        objects = X.astype(object).where(X.notna(), None)
        path.write_text(json.dumps(objects.to_dict("records")))
    return path


def with_unseen(X):
    """Some strings of each column are ones that training did not see."""
    X = X.copy()
    for name in X.select_dtypes(exclude="number"):
        X[name] = X[name].astype(object)
        X.loc[X.index[::7], name] = "never seen"
    return X


@pytest.mark.parametrize("suffix", [".csv", ".json"])
@pytest.mark.parametrize(
    ("load", "n_missing"),
    [
        (lambda: fetch_churn(return_X_y=True), 0),
        (
            lambda: fetch_rdatasets("modeldata", "credit_data", target="Status", return_X_y=True),
            50,
        ),
    ],
    ids=["churn", "credit"],
)
def test_real_mixed_tables(load, n_missing, suffix, ask_node, tmp_path):
    X, y = load()
    X, y = X.sample(frac=1, random_state=0), np.asarray(y.sample(frac=1, random_state=0))
    X_test = with_unseen(X.iloc[-N_ROWS:])
    assert (X_test == "never seen").any(axis=None)
    assert X_test.isna().to_numpy().sum() >= n_missing
    estimator = MoDEClassifier(
        n_experts=4, hidden_layer_sizes=(32,), max_epochs=3, inference="top_expert", random_state=0
    ).fit(X[:-N_ROWS], y[:-N_ROWS])
    skmode.onnx.export(estimator, tmp_path / "bundle")
    result = answers(ask_node(tmp_path / "bundle", write(X_test, tmp_path / f"rows{suffix}")))
    assert len(result["prediction"]) == N_ROWS
    assert result["prediction"] == estimator.predict(X_test).tolist()
    assert_allclose(result["probabilities"], estimator.predict_proba(X_test), rtol=0, atol=1e-5)
    served = skmode_deploy.load(tmp_path / "bundle").predict_full(X_test)
    assert result["expert"] == served.expert.tolist()
    assert_allclose(result["gate_probability"], served.gate_probability, rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_pipelines(suffix, ask_node, tmp_path):
    """Pipelines read numbers as float64."""
    X, y = fetch_churn(return_X_y=True)
    prepare = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    estimator = MoDEClassifier(
        n_experts=4, hidden_layer_sizes=(32,), max_epochs=3, inference="top_expert", random_state=0
    )
    pipeline = make_pipeline(prepare, estimator).fit(X[:-N_ROWS], y[:-N_ROWS])
    skmode.onnx.export(pipeline, tmp_path / "bundle", X=X[:-N_ROWS])
    manifest = skmode_deploy.bundle.read(tmp_path / "bundle")
    assert {column.dtype for column in manifest.columns} == {"float64", "string"}
    X_test = with_unseen(X.iloc[-N_ROWS:])
    result = answers(ask_node(tmp_path / "bundle", write(X_test, tmp_path / f"rows{suffix}")))
    assert result["prediction"] == pipeline.predict(X_test).tolist()
    assert_allclose(result["probabilities"], pipeline.predict_proba(X_test), rtol=0, atol=1e-5)


def test_pipelines_of_an_array(ask_node, tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 4))
    estimator = MoDERegressor(
        n_experts=2, hidden_layer_sizes=(8,), max_epochs=20, balance=0.1, inference="top_expert",
        random_state=0,
    )  # fmt: skip
    pipeline = make_pipeline(StandardScaler(), estimator)
    skmode.onnx.export(pipeline.fit(X, X[:, 0]), tmp_path / "bundle", X=X)
    (tmp_path / "rows.json").write_text(json.dumps(X.tolist()))
    result = answers(ask_node(tmp_path / "bundle", tmp_path / "rows.json"))
    assert_allclose(result["prediction"], pipeline.predict(X), rtol=1e-5, atol=1e-5)


def test_arrays_and_several_outputs(array, fit_regressor, ask_node, tmp_path):
    estimator = fit_regressor(array, n_outputs=2, inference="top_expert")
    skmode.onnx.export(estimator, tmp_path / "bundle")
    rows = [[None if np.isnan(value) else value for value in row] for row in array.tolist()]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    result = answers(ask_node(tmp_path / "bundle", tmp_path / "rows.json"))
    expected = estimator.predict(array)
    assert_allclose(result["prediction"], expected, rtol=1e-5, atol=1e-5)


def test_labels_without_an_onnx_type(table, fit_classifier, ask_node, tmp_path):
    """Categories may be numbers as well."""
    estimator = fit_classifier(table, classes=(False, True), inference="top_expert")
    skmode.onnx.export(estimator, tmp_path / "bundle")
    rows = table.astype({"plan": float}).replace({"city": {"Bern": "Genf"}})
    result = answers(ask_node(tmp_path / "bundle", write(rows, tmp_path / "rows.json")))
    assert result["prediction"] == estimator.predict(rows).tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age\n1\n", 'must have the column "city"'),
        ("age,city\nold,Bern\n", 'Column "age" must hold finite numbers, got "old"'),
        ("age,city\n1e99,Bern\n", 'Column "age" must hold finite numbers, got "1e99"'),
        ("age,city\n ,Bern\n", 'Column "age" must hold finite numbers, got " "'),
        ("age,city\n1\n", "Row 1 must have 2 fields"),
    ],
)
def test_refusals(text, message, table, fit_classifier, ask_node, tmp_path):
    estimator = fit_classifier(table[["age", "city"]])
    skmode.onnx.export(estimator, tmp_path / "bundle")
    (tmp_path / "rows.csv").write_text(text)
    result = ask_node(tmp_path / "bundle", tmp_path / "rows.csv")
    assert result.returncode == 1
    assert message in result.stderr


def test_a_changed_model_raises(array, fit_regressor, ask_node, tmp_path):
    skmode.onnx.export(fit_regressor(array), tmp_path / "bundle")
    with (tmp_path / "bundle" / "model.onnx").open("ab") as stream:
        stream.write(b"\n")
    (tmp_path / "rows.json").write_text("[]")
    result = ask_node(tmp_path / "bundle", tmp_path / "rows.json")
    assert result.returncode == 1
    assert "model.onnx is not the file that manifest.json names" in result.stderr
