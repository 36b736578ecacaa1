"""The report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from skmode.inspection._evaluation.mixtures import reads_images
from skmode.inspection._plot.labels import label
from skmode.inspection._report import formatting
from skmode.inspection._report.facts import Facts
from skmode.inspection._report.findings.ranking import all_findings
from skmode.inspection._report.measuring import measure
from skmode.inspection._report.pictures import all_pictures, require_matplotlib
from skmode.inspection._report.tables.general import all_tables
from skmode.inspection._report.tables.teacher import teacher_tables
from skmode.inspection._report.tables.texts import typical

KINDS = {"good": "Good", "note": "Note", "watch": "Watch", "act": "Act"}

HEADINGS = {
    "rows": "The rows and the model",
    "experts": "Who does what",
    "gate": "Is the gate right?",
    "serving": "May I serve the top expert alone?",
    "teacher": "How much of the teacher was kept?",
    "alike": "How alike are the experts?",
    "attention": "What do they look at?",
    "map": "Which expert predicts where?",
    "history": "How did gate and experts develop in training?",
    "words": "Glossary",
    "parameters": "Parameters",
}

WORDS = [
    ("Expert, gate, mixture", "Each expert is a network that can predict alone. The gate gives "
     "each row a weight for each expert; the mixture combines them by these weights."),
    ("Top expert, own rows", "The top expert of a row is the one with the largest weight. An "
     "expert's own rows are those whose top expert it is."),
    ("Gate recognition accuracy", "Among the rows that at least one expert gets right, the share "
     "that the gate sends to such an expert."),
    (formatting.INTERVAL, "If such rows were drawn again and again, 95 of 100 such intervals would "
     "contain the true value. The intervals are for this fitted model; skmode.inspection.compare "
     "measures how much scores vary when models are trained again."),
]  # fmt: skip


def report(
    estimator: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "Report on a mixture of experts",
    margin: float = 0.01,
    sample_weight: Any = None,
    soft_targets: Any = None,
    tolerance: float | None = None,
    n_repeats: int = 5,
    max_samples: int | None = 5000,
    random_state: Any = 0,
    verbose: int = 0,
) -> Path:
    """Write one HTML file with all tables and pictures, and findings in plain language.

    The file contains everything it needs: sortable tables, pictures, style and script. It loads
    nothing from the network, and its content security policy forbids it. It can be read on a
    phone, on a desktop and on paper. The same input gives the same file.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, one of their
        relatives for images, or a Pipeline or search that ends with one. Its `inference` is
        ignored.
    X : {array-like, DataFrame} of shape (n_samples, n_features), or images
        Rows, preferably unseen in training. Of images, the report shows typical ones of each
        expert, and what it and the gate look at.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True classes or values.
    path : str or path-like
        File to write. An existing file is replaced once the new one is complete.
    title : str, default="Report on a mixture of experts"
        Heading of the page.
    margin : float, default=0.01
        Largest loss that the findings call small when fewer experts run: in accuracy (0.01 is one
        percentage point), or in root mean squared error as a share of the mixture's.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    soft_targets : array-like of shape (n_samples, n_classes), (n_samples,) or \
(n_samples, n_outputs), default=None
        A teacher's predictions of the rows: values, or probabilities in the order of `classes_`. A
        table may name its columns by the classes, or by the columns of `y`, in any order. They add
        a section on how much of the teacher was kept, where expert and teacher disagree, and on
        which rows to ask the teacher instead.
    tolerance : float, default=None
        Regression: a prediction is right if it is within this distance of the target, see
        :func:`skmode.inspection.expert_probing`.
    n_repeats : int, default=5
        How often each feature is shuffled, see :func:`skmode.inspection.expert_attention`. With
        fewer than three the findings name no feature, because they cannot rule out chance.
    max_samples : int or None, default=5000
        Measure attention and map on at most this many rows, chosen at random; None takes all.
        Rows without weight are left out first.
    random_state : int, RandomState instance or None, default=0
        Seed of the choice of rows and of the shuffling.
    verbose : int, default=0
        Above 0, show a progress bar over the features.

    Returns
    -------
    path : pathlib.Path
        The file that was written.

    Raises
    ------
    ImportError
        If Jinja2 or matplotlib is missing.
    OSError
        If the file cannot be written.
    TypeError
        If there is no mixture in `estimator`.
    ValueError
        If the input is invalid.

    See Also
    --------
    skmode.inspection.expert_probing : Scores of the experts, as tables.
    skmode.inspection.expert_attention : Importance of features for experts and gate.
    skmode.inspection.gate_history : Gate and experts in training.

    Notes
    -----
    Top expert and mixture are compared on the same rows, so the interval of the loss is that of
    paired samples: for accuracy by Agresti and Min's method for matched proportions, for root mean
    squared errors by the delta method.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import report
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X[::2], y[::2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = report(classifier, X[1::2], y[1::2], f"{folder}/iris.html")
    ...     text = path.read_text(encoding="utf-8")
    >>> path.name, "May I serve the top expert alone?" in text
    ('iris.html', True)
    """
    if not margin >= 0:
        raise ValueError(f"margin must be zero or more, got {margin!r}: pass a share such as 0.01.")
    if max_samples is not None and max_samples < 1:
        raise ValueError(
            f"max_samples must be at least 1, got {max_samples!r}: raise it, or pass None for all."
        )
    path = Path(path)
    _check_target(path)
    template = _template()
    require_matplotlib()
    facts = measure(
        estimator,
        X,
        y,
        sample_weight=sample_weight,
        soft_targets=soft_targets,
        tolerance=tolerance,
        n_repeats=n_repeats,
        max_samples=max_samples,
        random_state=random_state,
        verbose=verbose,
    )
    _replace(path, template.render(**_context(facts, title, margin)))
    return path


def _context(facts: Facts, title: str, margin: float) -> dict[str, Any]:
    """Collect everything that the template reads."""
    style, script = _resource("report.css"), _resource("report.js")
    return {
        "title": label(title),
        "lead": _lead(facts),
        "sections": [
            ("findings", "Findings"),
            *(
                each
                for each in HEADINGS.items()
                if facts.teacher is not None or each[0] != "teacher"
            ),
        ],
        "headings": HEADINGS,
        "kinds": KINDS,
        "findings": all_findings(facts, margin),
        "tables": all_tables(facts) | teacher_tables(facts) | {"typical": typical(facts)},
        "pictures": all_pictures(facts),
        "attention_rows": _attention_rows(facts),
        "words": WORDS,
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
    }


def _lead(facts: Facts) -> str:
    n_features = len(facts.columns.names)
    what = (
        formatting.count(len(facts.mixture.classes_), "class", "classes")
        if facts.classifies
        else formatting.count(facts.target.values.shape[1], "target")
    )
    row, feature = ("image", "region") if reads_images(facts.mixture) else ("row", "feature")
    text = (
        f"{label(facts.steps[0])}{_inside(facts.steps)}: "
        f"{formatting.count(facts.n_experts, 'expert')}, measured on "
        f"{formatting.count(facts.n_samples, row)} with "
        f"{formatting.count(n_features, feature)} and {what}."
    )
    if facts.weighted:
        text += " Rows count by their weights."
    return f"{text} If training saw these rows, all figures are too optimistic."


def _inside(steps: list[str]) -> str:
    inner = [label(step) for step in steps[1:]]
    return f" ({', '.join(inner)})" if inner else ""


def _attention_rows(facts: Facts) -> str:
    measured = int(facts.attention.n_samples.drop("gate", errors="ignore").sum())
    text = f"Measured on {formatting.count(measured, 'row')}"
    if measured == facts.n_samples:
        return f"{text}."
    if measured == np.count_nonzero(facts.target.weight):
        return f"{text}, all that have a weight."
    return f"{text}, drawn at random."


def _template() -> Any:
    """Load the template, before any work because Jinja2 may be missing."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            "The report needs Jinja2, which is not installed: run `pip install jinja2` "
            "or install skmode with its extra `report`."
        ) from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_resource("report.html"))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name a style or script as a Content Security Policy does to allow it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _check_target(path: Path) -> None:
    """Check the path before the work, not after it."""
    if path.is_dir():
        raise IsADirectoryError(
            f"path must name a file, got the folder {str(path)!r}: add a name such as report.html."
        )
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"path must be in a folder that exists, got {str(path)!r}: make the folder first."
        )


def _replace(path: Path, text: str) -> None:
    """Write to a temporary folder beside the target and rename: nobody reads half a report."""
    path = path.absolute()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".report-") as folder:
        fresh = Path(folder, "report.html")
        fresh.write_text(text, encoding="utf-8", newline="\n")
        os.replace(fresh, path)
