"""Tokens in Node.js are those of Python."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import skmode_deploy
from skmode_deploy import Tokenizer
from skmode_deploy.running.inputs.texts import count_tokens, order_tokens

from .test_tokenizer import EDGES, SETTINGS, random_texts, train

NODE = Path(__file__).parents[3] / "node"
# Characters that one of the tables of Unicode does not know.
NEWER = {"new marks", "case"}

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="needs node")

TOKENS = """
import { readFileSync } from "node:fs";
import { Tokenizer, countTokens, orderTokens } from "./tokenizer.mjs";
const { tokenizer, texts } = JSON.parse(readFileSync(0, "utf8"));
const opened = new Tokenizer(tokenizer);
const lists = texts.map((text) => opened.encode(text));
const { tokens, counts, length } = countTokens(lists, 9);
const table = [Array.from(tokens, Number), Array.from(counts), length];
const ordered = Array.from(orderTokens(lists, 9).tokens, Number);
console.log(JSON.stringify([lists, table, ordered]));
"""


@pytest.mark.parametrize(
    "setting",
    [
        "both",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS if name != "both"),
    ],
)
def test_tokens(setting):
    library = train(**SETTINGS[setting]).to_str()
    texts = [text for name, text in EDGES.items() if name not in NEWER]
    known = ("".join(char for char in text if ord(char) < 0x800) for text in random_texts(500))
    texts += [*known, "ΟΔΟΣ ΣΑΣ", "ab" * 20_000]
    document = json.dumps({"tokenizer": library, "texts": texts})
    command = ["node", "--input-type=module", "-e", TOKENS]
    done = subprocess.run(command, input=document, cwd=NODE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lists, (tokens, counts, length), ordered = json.loads(done.stdout)
    expected = Tokenizer(library).encode_batch(texts)
    for text, found, tokens_of_text in zip(texts, lists, expected, strict=True):
        assert found == tokens_of_text, ascii(text)
    wanted = count_tokens(expected, 9)
    assert wanted[0].shape[1] == length
    assert wanted[0].ravel().tolist() == tokens
    assert wanted[1].ravel().tolist() == counts
    assert order_tokens(expected, 9)[0].ravel().tolist() == ordered


@pytest.fixture
def ask_node(tmp_path):
    """Run the snippet; tests of the export install onnxruntime-node."""
    datasets = pytest.importorskip("skmode.datasets")
    digest = hashlib.sha256((NODE / "package-lock.json").read_bytes()).hexdigest()
    modules = datasets.get_data_home() / f"node-{digest[:16]}" / "node_modules"
    if not modules.exists():
        pytest.skip("needs onnxruntime-node, which tests/onnx/test_node.py installs")
    (tmp_path / "node_modules").symlink_to(modules)
    for name in ("predict.mjs", "tokenizer.mjs"):
        shutil.copy(NODE / name, tmp_path)

    def ask(bundle, rows):
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        command = ["node", "predict.mjs", str(bundle), "rows.json"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return ask


def test_predictions(make_text_bundle, ask_node):
    texts = ["good", "a bad, bad day 🙂", "", None, "good bad good"]
    table = {"age": [0.0, 10.0, 90.0, 5.0, 1.0], "review": texts}
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    folder = make_text_bundle()
    for bundle, X, sent in (
        (folder, texts, texts),
        (folder, texts, [{"any": text} for text in texts]),
        (make_text_bundle("table", table=True), table, rows),
    ):
        done = ask_node(bundle, sent)
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        expected = skmode_deploy.load(bundle).predict_full(X)
        assert [row["prediction"] for row in found] == expected.value.tolist()
        assert [row["expert"] for row in found] == expected.expert.tolist()
        probabilities = np.array([row["probabilities"] for row in found])
        assert_allclose(probabilities, expected.probabilities, rtol=1e-5)


@pytest.mark.slow
def test_refusals(make_text_bundle, ask_node):
    folder = make_text_bundle()
    for rows, message in (
        (["x" * 2000], "at most 1000 bytes, got more in row 0"),
        (["good", "a\0"], "without null characters and half ones, row 1"),
        ([{"a": "good", "b": "bad"}], "A row must have one text, got 2 columns"),
        ([3], "must have one text"),
    ):
        done = ask_node(folder, rows)
        assert done.returncode != 0
        assert message in done.stderr
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json is not the file that manifest.json names" in ask_node(folder, []).stderr
