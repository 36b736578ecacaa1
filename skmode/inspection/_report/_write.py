"""The report as one file."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from skmode.inspection._report import _findings, _pictures, _tables, _words
from skmode.inspection._report._facts import Facts, measure

KINDS = {"good": "Good", "note": "Note", "watch": "Watch", "act": "Act"}

HEADINGS = {
    "rows": "The rows and the model",
    "experts": "Who does what",
    "gate": "Is the gate right?",
    "serving": "May I serve the top expert alone?",
    "alike": "How alike are the experts?",
    "attention": "What do they look at?",
    "map": "Who answers where?",
    "history": "How did the gate get there?",
    "words": "Words",
    "parameters": "Parameters",
}

WORDS = [
    ("Expert, gate, mixture", "Each expert is a network that can answer alone. The gate gives each "
     "row a weight for each expert; the mixture is what they answer together."),
    ("Top expert, own rows", "The top expert of a row is the one with the largest weight. The rows "
     "of which an expert is the top expert are its own."),
    ("Gate recognition accuracy", "Among the rows that at least one expert gets right alone, the "
     "share whose top expert is such an expert."),
    (_words.INTERVAL, "If such rows were drawn again and again, intervals made in this way would "
     "hold the true value 95 times in 100. Of the same fitted model: another training is another "
     "matter, which skmode.inspection.compare looks at."),
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
    tolerance: float | None = None,
    n_repeats: int = 5,
    max_samples: int | None = 5000,
    random_state: Any = 0,
) -> Path:
    """Write what the instruments find as one HTML file, with findings in plain language.

    The file has all in it: tables that are sorted by a click, pictures, style and script. It
    loads nothing, from no network, and forbids the browser to. It reads on a phone, on a desktop
    and on paper. The same input gives the same file.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one. Its `inference` does not matter.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows, best such that training did not see.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True classes or values.
    path : str or path-like
        File to write. One that is there is replaced, when the new one is complete.
    title : str, default="Report on a mixture of experts"
        Heading of the page.
    margin : float, default=0.01
        Largest loss that is called small when less is run: of accuracy (0.01 is one percentage
        point), or of the root mean squared error as a share of the mixture's.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    tolerance : float, default=None
        Regression: largest distance of a prediction that counts as right, see
        :func:`skmode.inspection.expert_probing`.
    n_repeats : int, default=5
        Shufflings of each feature, see :func:`skmode.inspection.expert_attention`. Fewer than
        three tell nothing of chance, and the findings name no feature then.
    max_samples : int or None, default=5000
        Rows, drawn at random, that attention and map are measured on at most; None takes all.
        Rows without weight are left out before any other.
    random_state : int, RandomState instance or None, default=0
        Seed of these rows and of the shuffling.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    ImportError
        If Jinja2 or matplotlib is missing.
    OSError
        If the file cannot be written.
    TypeError
        If there is no mixture in `estimator`.
    ValueError
        If the input is malformed.

    See Also
    --------
    skmode.inspection.expert_probing : Who does what, as tables.
    skmode.inspection.expert_attention : Which features matter to whom.
    skmode.inspection.gate_history : How the gate went in training.

    Notes
    -----
    The loss of the top expert alone against the mixture is that of paired rows. Its interval is,
    for accuracy, that of Agresti and Min for matched proportions, and for root mean squared errors
    that of the delta method.

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
    _pictures.require_matplotlib()
    facts = measure(
        estimator,
        X,
        y,
        sample_weight=sample_weight,
        tolerance=tolerance,
        n_repeats=n_repeats,
        max_samples=max_samples,
        random_state=random_state,
    )
    _replace(path, template.render(**_context(facts, title, margin)))
    return path


def _context(facts: Facts, title: str, margin: float) -> dict[str, Any]:
    """All that the template reads."""
    style, script = _resource("report.css"), _resource("report.js")
    return {
        "title": _words.name(title),
        "lead": _lead(facts),
        "sections": [("findings", "Findings"), *HEADINGS.items()],
        "headings": HEADINGS,
        "kinds": KINDS,
        "findings": _findings.all_findings(facts, margin),
        "tables": _tables.all_tables(facts),
        "pictures": _pictures.all_pictures(facts),
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
        _words.count(len(facts.mixture.classes_), "class", "classes")
        if facts.classifies
        else _words.count(facts.target.values.shape[1], "target")
    )
    text = (
        f"{' with '.join(_words.name(step) for step in facts.steps[:1])}"
        f"{_inside(facts.steps)}: {_words.count(facts.n_experts, 'expert')}, looked at on "
        f"{_words.count(facts.n_samples, 'row')} of {_words.count(n_features, 'feature')}, "
        f"{what}."
    )
    if facts.weighted:
        text += " Rows count by their weights."
    return f"{text} All figures are of these rows; if training saw them, they flatter."


def _inside(steps: list[str]) -> str:
    inner = [_words.name(step) for step in steps[1:]]
    return f" ({', '.join(inner)})" if inner else ""


def _attention_rows(facts: Facts) -> str:
    measured = int(facts.attention.n_samples.drop("gate", errors="ignore").sum())
    text = f"Measured on {_words.count(measured, 'row')}"
    if measured == facts.n_samples:
        return f"{text}."
    if measured == np.count_nonzero(facts.target.weight):
        return f"{text}, all that have a weight."
    return f"{text}, drawn at random."


def _template() -> Any:
    """Read before the work, for Jinja2 may be missing."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            "The report is filled in by Jinja2, which is not installed: run `pip install jinja2` "
            "or install skmode with its extra `report`."
        ) from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_resource("report.html"))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a Content Security Policy calls a style or script that it allows."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _check_target(path: Path) -> None:
    """Before the work, not after it."""
    if path.is_dir():
        raise IsADirectoryError(
            f"path must be that of a file, got the folder {str(path)!r}: add a name such as "
            "report.html."
        )
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"path must lie in a folder that exists, got {str(path)!r}: make the folder first."
        )


def _replace(path: Path, text: str) -> None:
    """Write beside the target and rename, so that nobody reads half a report."""
    path = path.absolute()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".report-") as folder:
        fresh = Path(folder, "report.html")
        fresh.write_text(text, encoding="utf-8", newline="\n")
        os.replace(fresh, path)
