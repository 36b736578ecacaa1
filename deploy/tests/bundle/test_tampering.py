"""Every file of a bundle is damaged in every way; each time the bundle is refused.

No hash protects against someone who writes a manifest that fits the damaged files; a signature
does. Even then, the check of the graphs raises nothing but refusals.
"""

import dataclasses
import hashlib
import os
import random
import shutil
import warnings
from itertools import combinations

import numpy as np
import pytest

from skmode_deploy import bundle, load
from skmode_deploy.errors import BundleError, GraphFormatError
from skmode_deploy.running.predictor import Prediction


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What skmode exports, where it is installed."""
    export = pytest.importorskip("skmode.onnx", exc_type=ImportError).export
    pd = pytest.importorskip("pandas")
    from skmode import MoDEClassifier

    generator = random.Random(0)
    X = pd.DataFrame(
        {
            "age": [generator.random() for _ in range(60)],
            "city": [generator.choice(["Bern", "Köln", None]) for _ in range(60)],
        }
    )
    y = ["old" if age > 0.5 else "young" for age in X["age"]]
    estimator = MoDEClassifier(n_experts=2, hidden_layer_sizes=(4,), max_epochs=2, random_state=0)
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs train nothing that routes well
        estimator.fit(X, y)
    export(estimator, folder)
    return folder


@pytest.fixture(
    params=["by hand", pytest.param("exported", marks=pytest.mark.slow), "array", "images"]
)
def folder(request, tmp_path):
    if request.param == "by hand":
        return request.getfixturevalue("table_bundle")
    if request.param == "array":
        return request.getfixturevalue("make_regressor")()
    if request.param == "images":
        return request.getfixturevalue("make_image_bundle")()
    shutil.copytree(request.getfixturevalue("exported"), tmp_path / "copy")
    return tmp_path / "copy"


def refused(folder):
    with pytest.raises(BundleError) as caught:
        bundle.verify(folder)
    assert type(caught.value) is not BundleError  # a rule of its own
    with pytest.raises(BundleError):
        load(folder)


def test_untampered_bundle_passes(folder):
    names = [*bundle.verify(folder).files, "manifest.json"]
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    assert {"README.md", "manifest.json", "model.onnx", "gate.onnx", "expert_1.onnx"} <= set(names)


def change_bytes(data, generator):
    data = bytearray(data)
    for _ in range(generator.choice([1, 1, 2, 50])):
        data[generator.randrange(len(data))] ^= generator.randrange(1, 256)
    return bytes(data)


def insert(data, generator):
    position = generator.randrange(len(data) + 1)
    return data[:position] + generator.randbytes(generator.randint(1, 20)) + data[position:]


def delete(data, generator):
    start = generator.randrange(len(data))
    return data[:start] + data[start + generator.randint(1, 20) :]


def truncate(data, generator):
    return data[: generator.randrange(len(data))]


def exchange_blocks(data, generator):
    position = generator.randrange(1, len(data))
    return data[position:] + data[:position]


def clear(data, generator):
    return bytes(len(data))


DAMAGES = [change_bytes, insert, delete, truncate, exchange_blocks, clear]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bytes_are_refused(damage, folder):
    generator = random.Random(damage.__name__)
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for _ in range(1 if damage is clear else 5):
            damaged = damage(data, generator)
            if damaged == data:
                continue
            path.write_bytes(damaged)
            refused(folder)
        path.write_bytes(data)
    bundle.verify(folder)


def test_swapped_files_are_refused(folder):
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    for first, second in combinations(sorted(contents), 2):
        if contents[first] == contents[second]:
            continue
        first.write_bytes(contents[second])
        refused(folder)
        second.write_bytes(contents[first])
        refused(folder)
        first.write_bytes(contents[first])
        second.write_bytes(contents[second])
    bundle.verify(folder)


def leave_out(path, aside):
    pass


def replace_by_link(path, aside):
    path.symlink_to(aside)


def replace_by_a_link_that_leads_nowhere(path, aside):
    path.symlink_to("nowhere")


def replace_by_a_link_to_itself(path, aside):
    path.symlink_to(path.name)


def replace_by_folder(path, aside):
    path.mkdir()
    shutil.copy(aside, path)


def replace_by_pipe(path, aside):
    os.mkfifo(path)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes need rights there")
@pytest.mark.parametrize(
    "replace",
    [
        leave_out,
        replace_by_link,
        replace_by_a_link_that_leads_nowhere,
        replace_by_a_link_to_itself,
        replace_by_folder,
        replace_by_pipe,
    ],
)
def test_replaced_files_are_refused(replace, folder, tmp_path):
    for path in sorted(folder.iterdir()):
        aside = tmp_path / "aside"
        path.rename(aside)
        replace(path, aside)
        refused(folder)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(True)
        aside.rename(path)
    bundle.verify(folder)


def rows(manifest):
    """Rows that a model takes."""
    if manifest.image is not None:
        return np.zeros((3, *manifest.image.shape), np.uint8)
    if manifest.input == "array":
        return np.zeros((3, len(manifest.columns)))
    return {
        column.name: ["Bern", "Rom", ""] if column.dtype == "string" else [1.0, 2.0, np.nan]
        for column in manifest.columns
    }


def outcome(folder, strategy):
    """What becomes of a bundle: the type of a refusal, or that of an answer."""
    try:
        manifest = bundle.verify(folder)
        predictor = load(folder, strategy=strategy)
        answer = predictor.predict_full(rows(manifest))
    except BundleError as error:
        return type(error)
    return type(answer)


@pytest.mark.parametrize("damage", [change_bytes, insert, delete, truncate])
def test_damaged_graphs_with_matching_hashes_raise_only_bundle_errors(damage, folder):
    """The graph check meets bytes that no hash protects."""
    generator = random.Random(damage.__name__)
    manifest = bundle.read(folder)
    graphs = [folder / name for name in manifest.files if name.endswith(".onnx")]
    strategies = ("graph", "split") if manifest.routing == "top_expert" else ("graph",)
    outcomes = set()
    for path in graphs * 15:
        data = path.read_bytes()
        damaged = damage(data, generator)
        path.write_bytes(damaged)
        entry = bundle.File(len(damaged), hashlib.sha256(damaged).hexdigest())
        fitting = dataclasses.replace(manifest, files=manifest.files | {path.name: entry})
        (folder / "manifest.json").write_text(fitting.to_json())
        for strategy in strategies:
            outcomes.add(outcome(folder, strategy))
        path.write_bytes(data)
    assert GraphFormatError in outcomes
    assert Prediction in outcomes or damage is not change_bytes  # of other weights, say
