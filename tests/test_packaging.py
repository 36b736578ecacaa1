"""Both wheels hold what they need, and skmode-deploy serves every kind of bundle by itself."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skmode.onnx
import skmode_deploy.signing
from skmode import MoDEClassifier, MoDERegressor

ROOT = Path(__file__).parents[1]
NOT_FOR_SERVING = ["torch", "sklearn", "onnx", "pandas", "skmode", "pyarrow", "model_signing"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def build_wheel(source, folder):
    """Build from a copy, for a build leaves its folders behind."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", source]
    files = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\n")):
        if (ROOT / name).exists():
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    subprocess.run([*pip, str(folder / "source" / source)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def deploy_wheel(tmp_path_factory):
    return build_wheel("deploy", tmp_path_factory.mktemp("deploy"))


@pytest.fixture(scope="module")
def python(deploy_wheel, tmp_path_factory):
    """Interpreter of an environment that holds skmode-deploy and what it needs, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    program = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(program), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(deploy_wheel)], check=True)
    return program


def run(command, folder):
    """Run apart from the checkout."""
    hidden = ("PYTHONPATH", "PYTHONHOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    result = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("source", "package", "modules"),
    [
        (".", "skmode", ["skmode", "skmode.nn", "skmode.datasets"]),
        ("deploy", "skmode_deploy", ["skmode_deploy"]),
    ],
)
def test_wheel_imports_outside_the_checkout(source, package, modules, tmp_path):
    zipfile.ZipFile(build_wheel(source, tmp_path)).extractall(tmp_path / "installed")
    assert (tmp_path / "installed" / package / "py.typed").exists()
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r})\n"
    code += "".join(f"import {module}\n" for module in modules)
    code += f"print({package}.__file__)"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert result.stdout.startswith(str(tmp_path / "installed"))


# Serving from a fresh environment.


class Gated(torch.nn.Module):
    """Experts of the user's own."""

    def __init__(self, in_features):
        super().__init__()
        self.linear = torch.nn.Linear(in_features, 16)

    def forward(self, x):
        return torch.nn.functional.glu(self.linear(x))


def make_array():
    X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    X[::7, 1] = np.nan
    return X


def make_table():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "age": rng.normal(50, 20, 300),
            "city": rng.choice(["Bern", "Köln", "Łódź"], 300),
            "plan": pd.Categorical(rng.choice([1.5, 2.25, 2.0**52], 300)),
        }
    )
    frame.loc[::5, "age"] = np.nan
    frame["city"] = frame["city"].astype(object).where(np.arange(300) % 9 > 0, None)
    return frame


SMALL = {"n_experts": 3, "hidden_layer_sizes": (16,), "max_epochs": 2, "random_state": 0}
SPARSE = {"gate": "sparse", "top_k": 2}
PREPARE = make_column_transformer(
    (make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
    (OneHotEncoder(handle_unknown="ignore"), ["city"]),
)
# Estimator, its input, its labels or number of outputs, routing, other options of the export.
KINDS = {
    "binary": (MoDEClassifier(**SMALL), make_table, ("no", "yes"), "top_expert"),
    "bools": (MoDEClassifier(**SMALL), make_table, (False, True), "top_expert"),
    "multiclass": (MoDEClassifier(**SMALL), make_array, (7, 8, 9), "top_expert"),
    "floats": (MoDEClassifier(**SMALL), make_array, (1.0, 2.0, 3.0), "top_expert"),
    "regressor": (MoDERegressor(**SMALL), make_array, 1, "top_expert"),
    "outputs": (MoDERegressor(**SMALL), make_table, 3, "top_expert"),
    "sparse": (MoDEClassifier(**SMALL, **SPARSE), make_table, ("a", "b", "c"), "top_expert"),
    "mixture": (MoDEClassifier(**SMALL), make_table, ("a", "b", "c"), "mixture"),
    "sparse_mixture": (MoDERegressor(**SMALL, **SPARSE), make_array, 1, "mixture"),
    "modules": (MoDEClassifier(**SMALL, expert_module=Gated), make_array, (0, 1), "top_expert"),
    "pipeline": (
        make_pipeline(PREPARE, MoDEClassifier(**SMALL)), make_table, ("no", "yes"), "top_expert",
    ),
    "quantized": (
        MoDEClassifier(**SMALL), make_table, ("no", "yes"), "top_expert",
        {"quantize": "dynamic", "tolerance": 0.5},
    ),
    # The environment has no model-signing: who does not ask for a signature needs none.
    "signed": (MoDEClassifier(**SMALL), make_table, ("no", "yes"), "top_expert"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A folder with a bundle of each kind and, beside it, its rows as JSON."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, (estimator, make_input, target, routing, *options) in KINDS.items():
        X = make_input()
        if isinstance(target, tuple):
            y = np.array(target)[np.arange(len(X)) % len(target)]
        else:
            y = np.random.default_rng(2).normal(size=(len(X), target)).squeeze()
        options = dict(*options)
        skmode.onnx.export(estimator.fit(X, y), folder / name, X=X, routing=routing, **options)
        rows = X.tolist() if isinstance(X, np.ndarray) else to_json(X)
        (folder / f"{name}.json").write_text(json.dumps(rows))
    sign(folder / "signed", folder / "private.pem")
    return folder


def sign(bundle, key):
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    skmode_deploy.signing.sign(bundle, key)
    assert (bundle / "model.sig").is_file()


def to_json(frame):
    objects = frame.astype(object).where(frame.notna(), None)
    return objects.to_dict("list")


SERVE = """
import json, sys
import numpy as np
import skmode_deploy

name, strategy = sys.argv[1:]
rows = json.load(open(f"{name}.json"))
X = np.array(rows) if isinstance(rows, list) else rows
served = skmode_deploy.load(name, strategy=strategy)
answer = served.predict_full(X)
for field, values in answer._asdict().items():
    if values is not None:
        if values.dtype == object:
            values = values.astype(str)
        np.save(f"{name}-{field}.npy", values)
assert (served.predict(X) == answer.value).all()
print(json.dumps(sorted(set(sys.modules) & set(MODULES))))
"""


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        (name, strategy)
        for name, (_, _, _, routing, *_) in KINDS.items()
        for strategy in ("graph", "split")
        if (routing, strategy) != ("mixture", "split")  # a mixture needs all experts at once
    ],
)
def test_every_kind_of_bundle(name, strategy, bundles, python):
    code = f"MODULES = {NOT_FOR_SERVING!r}\n{SERVE}"
    assert json.loads(run([python, "-c", code, name, strategy], bundles)) == []
    expected = skmode_deploy.load(bundles / name).predict_full(KINDS[name][1]())
    assert (expected.probabilities is None) == isinstance(KINDS[name][2], int)
    for field, values in expected._asdict().items():
        if values is None:
            continue
        served = np.load(bundles / f"{name}-{field}.npy")
        if values.dtype == np.float32:
            assert_allclose(served, values, rtol=1e-5, atol=1e-6)
        else:
            assert_array_equal(served, values)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "beside torch"])
def test_import_is_quick_and_light(fresh, python, tmp_path):
    """The time of importing numpy and onnxruntime does not count."""
    interpreter = python if fresh else sys.executable
    deploy = [] if fresh else [str(ROOT / "deploy")]
    code = (
        f"import sys; sys.path[:0] = {deploy!r}\n"
        "import time, numpy, onnxruntime\n"
        "start = time.perf_counter()\n"
        "import skmode_deploy\n"
        "print(time.perf_counter() - start)\n"
        f"print(sorted(set({NOT_FOR_SERVING!r}) & set(sys.modules)))"
    )
    seconds, loaded = run([interpreter, "-c", code], tmp_path).splitlines()
    assert loaded == "[]"
    assert float(seconds) < 0.5


def test_the_schema_is_in_the_wheel(deploy_wheel):
    with zipfile.ZipFile(deploy_wheel) as wheel:
        schema = json.loads(wheel.read("skmode_deploy/manifest.schema.json"))
    assert schema["type"] == "object"


def test_the_description_in_the_wheel_links_to_the_repository(deploy_wheel):
    with zipfile.ZipFile(deploy_wheel) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        text = wheel.read(metadata).decode()
    assert f"/blob/v{skmode_deploy.__version__}/deploy/docker/README.md)" in text


def test_the_command_line(bundles, python, tmp_path):
    program = python.with_name("skmode-deploy")
    make_table().to_csv(tmp_path / "rows.csv", index=False)
    assert run([program, "--version"], tmp_path) == f"skmode-deploy {skmode_deploy.__version__}\n"
    assert "verified" in run([program, "verify", bundles / "binary"], tmp_path)
    assert "Köln" in run([program, "inspect", bundles / "binary"], tmp_path)
    run([program, "predict", bundles / "binary", "rows.csv", "out.csv"], tmp_path)
    expected = skmode_deploy.load(bundles / "binary").predict(make_table())
    assert_array_equal(pd.read_csv(tmp_path / "out.csv")["prediction"], expected)
    arguments = ["benchmark", bundles / "binary", "--rows", "10", "--seconds", "0.01", "--json"]
    assert json.loads(run([program, *arguments], tmp_path))[0]["rows"] == 10
