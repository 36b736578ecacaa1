"""Bars are drawn by what suits the place, and only where they are asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from skmode._common.notebooks.progress import progress_bar


def test_counts_and_ends(capsys):
    assert list(progress_bar(range(3), "counting")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert "counting: 100%" in err
    assert list(progress_bar(range(3), disable=True)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_bar_that_is_not_shown_loads_nothing_for_notebooks():
    code = (
        "import sys\n"
        "from skmode._common.notebooks.progress import progress_bar\n"
        "import skmode.inspection\n"
        "list(progress_bar(range(2), disable=True))\n"
        "print('tqdm.auto' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


FIT = """
import numpy as np
from skmode import MoDEClassifier

X = np.random.default_rng(0).normal(size=(80, 3))
MoDEClassifier(max_epochs=2, hidden_layer_sizes=(8,), verbose={}).fit(X, X[:, 0] > 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("verbose", [0, 1])
def test_in_a_notebook(verbose, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FIT.format(verbose))])
    NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": os.fspath(tmp_path)}}
    ).execute()
    *drawn, shown = notebook.cells[0].outputs
    assert "skmode-experts" in shown["data"]["text/html"]
    if verbose:
        # A widget, or without ipywidgets text and a line that names ipywidgets.
        assert "epoch" in str(drawn) or "widget" in str(drawn)
    else:
        assert drawn == []
