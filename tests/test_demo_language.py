"""The demo of language models in a reduced form: it runs, and its figures belong together."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DEMO = Path(__file__).parents[1] / "demo" / "language.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_figures_belong_together(tmp_path):
    command = [sys.executable, DEMO, "--quick", "--output", tmp_path]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    results = json.loads((tmp_path / "language.json").read_text())
    assert list(results["bits_per_byte"]) == [
        "one after the other",
        "all at once",
        "experts, routed",
    ]
    for kind, own in results["bits_per_byte"].items():
        assert list(own) == ["en", "fr", "de", "py"]
        assert f"{kind:22}{own['en']:10.3f}" in finished.stdout
        assert f"{np.mean(list(own.values())):.3f}" in finished.stdout
    unchanged = {f"expert_{name}.onnx" for name in ("en", "fr", "de", "py")}
    assert unchanged | {"tokenizer.json"} == set(results["added"]["unchanged"])
    assert results["added"]["failures"] == 0
    assert results["added"]["requests"] > 1
    assert set(results["routing"]["2"]) == {"en", "fr", "de", "py", "es"}
    assert results["runtime"]["with_cache"] > results["runtime"]["without_cache"]
    assert (tmp_path / "language.png").read_bytes().startswith(b"\x89PNG")
