"""The demo of the taught expert in a reduced form: it runs, and its figures belong together."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DEMO = Path(__file__).parents[1] / "demo" / "spam.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_figures_belong_together(tmp_path):
    command = [sys.executable, DEMO, "--quick", "--output", tmp_path]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    results = json.loads((tmp_path / "spam.json").read_text())
    losses = {row["name"]: np.array(row["losses"]) for row in results["models"]}
    taught = losses["top expert, taught by an ensemble"]
    for row in results["models"]:
        assert f"{row['name']:34}  {row['loss']:.4f}" in finished.stdout
        assert np.isclose(row["loss"], losses[row["name"]].mean())
        if losses[row["name"]] is not taught:
            gap = losses[row["name"]] - taught
            assert np.isclose(row["difference"], gap.mean())
            assert row["interval"][0] < row["difference"] < row["interval"][1]
            assert row["worse_splits"] == (gap > 0).sum()
    assert set(results["median_seconds"]) == {
        "one network",
        "top expert, taught by an ensemble",
        "four networks averaged",
    }
    assert (tmp_path / "spam.png").read_bytes().startswith(b"\x89PNG")
