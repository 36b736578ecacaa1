"""The notebooks run from top to bottom, and their committed outputs are complete and clean."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# Where people and build machines keep their files, and where kernels keep cells.
MACHINE_PATHS = re.compile(
    r"(?<![\w.:/])/(?:home|Users|root|tmp|var|work|opt|mnt)/|ipykernel_\d|\b[A-Z]:\\"
)
DOWNLOAD = "skmode.datasets: downloading"
# What only the full form prints: its rows, sets, seeds.
ONLY_IN_FULL_FORM = {
    "alpha_and_probing": "840 mixtures were fitted and probed",
    "distil_an_ensemble": "2,400 flights to learn from",
    "images": "4,000 images to learn from, 1,000 to test on",
    "modular_language_models": "500 steps of the teacher, 200 of the warm student",
    "multimodal": "1973 rows",
    "quickstart": "5,282 customers to learn from, 1,761 to test on",
    "routing_gap": "375 models were fitted on 15 sets",
    "text": "5,485 texts to learn from, 2,189 to test on",
    "why_it_works": "accuracy of who knows the patterns: 0.9983",
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def texts(output):
    """Everything in an output that a reader sees as text, or may copy."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return [output.ename, output.evalue, *output.traceback]
    return [
        value if isinstance(value, str) else json.dumps(value)
        for kind, value in output.data.items()
        if not kind.startswith("image/") or kind == "image/svg+xml"
    ]


def printed(notebook):
    """All that its cells printed."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@each_notebook
def test_short_form_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("SKMODE_NOTEBOOKS", "short")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("SKMODE_NOTEBOOKS_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)  # nothing may be read from, or left in, the checkout
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.update(outputs=[], execution_count=None)
    client = NotebookClient(
        notebook,
        timeout=600,  # seconds a cell
        kernel_name="python3",
        resources={"metadata": {"path": os.fspath(tmp_path)}},
    )
    client.execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    errors = [output.text for output in outputs if output.get("name") == "stderr"]
    # On a new machine, skmode.datasets says what it downloads.
    warnings = [line for line in "".join(errors).splitlines() if DOWNLOAD not in line]
    assert warnings == []
    # Otherwise a short form, committed by mistake, would pass for the full one.
    assert ONLY_IN_FULL_FORM[path.stem] not in printed(notebook)


@each_notebook
def test_committed_outputs_come_from_one_complete_run(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert [output for output in outputs if output.output_type == "error"] == []
    assert [output for output in outputs if output.get("name") == "stderr"] == []


@each_notebook
def test_committed_outputs_come_from_the_full_version(path):
    assert path.stem in ONLY_IN_FULL_FORM, "say there what only its full form prints"
    shown = printed(nbformat.read(path, as_version=4))
    assert ONLY_IN_FULL_FORM[path.stem] in shown


@each_notebook
def test_outputs_contain_no_local_paths(path):
    notebook = nbformat.read(path, as_version=4)
    shown = [
        text for cell in code_cells(notebook) for output in cell.outputs for text in texts(output)
    ]
    sources = [cell.source for cell in notebook.cells]
    assert [text for text in [*shown, *sources] if MACHINE_PATHS.search(text)] == []
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.metadata for cell in notebook.cells if "execution" in cell.metadata] == []
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_short_form_and_title(path):
    notebook = nbformat.read(path, as_version=4)
    assert any('"SKMODE_NOTEBOOKS"' in cell.source for cell in code_cells(notebook))
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


def test_there_are_notebooks():
    assert NOTEBOOKS
