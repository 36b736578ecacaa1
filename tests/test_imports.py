"""Imports stay cheap, checked in a fresh interpreter."""

import subprocess
import sys

import pytest

LARGE = {
    "lightning",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "sacrebleu",
    "tokenizers",
    "transformers",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "strangers"),
    [
        ("skmode", LARGE),
        ("skmode.nn", LARGE),
        ("skmode.inspection", LARGE),
        ("skmode.language", {"tokenizers", "transformers"}),
        (
            "skmode_deploy",
            {"matplotlib", "onnx", "pandas", "scipy", "skmode", "skorch", "sklearn", "torch"},
        ),
    ],
)
def test_import_is_light(package, strangers):
    # -P: not out of the current folder but as installed.
    loaded = subprocess.check_output(
        [sys.executable, "-P", "-c", f"import {package}, sys; print(*sys.modules)"], text=True
    )
    assert package in loaded.split()
    assert not strangers & set(loaded.split())
