"""Layer-wise probing: at which layer of an expert its task is solved already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, check_random_state

from skmode.inspection import _outputs
from skmode.inspection._probing import probe as probe_experts

Array = NDArray[Any]

# What an expert makes of rows, layer by layer: name and hidden units.
Layers = dict[str, Array]

# Rows whose hidden units are in memory at once.
BLOCK_ROWS = 4096


@dataclass(frozen=True, repr=False, eq=False)
class LayerProbing:
    """What :func:`layer_probing` found.

    Attributes
    ----------
    layers : DataFrame
        One row a layer of an expert of a model: `model` (``"estimator"`` or ``"reference"``),
        `expert`, `depth` (0 is what gate and experts read), `layer` (its name), `width`
        and `score`, the linear probe's on the rows of the expert's domain.
    experts : DataFrame
        One row an expert of a model: `model`, `expert`, `n_samples` of its domain, its own
        `score` there, and `first_layer` and `first_depth`, the first layer whose probe does as
        well (missing where none does).
    metric : {"accuracy", "rmse"}
        What the scores are: accuracy, or the root mean squared error in units of the target.
    tolerance : float
        How much worse than the expert is as well.
    """

    layers: pd.DataFrame
    experts: pd.DataFrame
    metric: str
    tolerance: float

    def __repr__(self) -> str:
        depths = {
            model: f"{part['first_depth'].astype(float).mean():.2g}"
            for model, part in self.experts.groupby("model", sort=False)
        }
        return f"<LayerProbing, mean depth of the first layer that solves the task: {depths}>"


def layer_probing(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    X_train: Any,
    y_train: Any,
    domains: Any = "own",
    reference: Any = None,
    probe: Any = None,
    tolerance: float = 0.01,
    max_train_samples: int | None = 2000,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> LayerProbing:
    """Train a linear probe on each hidden layer of each expert, and score it on its domain.

    An expert's task is solved at the first layer whose probe does as well on the rows of the
    expert's domain as the expert itself. Layer 0 is what all experts read: where its
    probe does as well, the domain is a linear task.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows to score on, best such that training did not see.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True classes or values.
    X_train : {array-like, DataFrame} of shape (n_train_samples, n_features)
        Rows to train the probes on.
    y_train : array-like of shape (n_train_samples,) or (n_train_samples, n_outputs)
        Their classes or values.
    domains : "own" or fitted estimator, default="own"
        Whose gate divides the rows into domains, see :func:`expert_probing`.
    reference : fitted estimator, default=None
        A model to probe beside it, such as the same without distillation (``alpha=0``).
    probe : estimator, default=None
        What to train on the hidden units. None: a logistic regression, or a ridge regression
        whose penalty is chosen by its leave-one-out error, on standardised units.
    tolerance : float, default=0.01
        A probe does as well as the expert with an accuracy that is less by this much, or with
        an error that is larger by this share.
    max_train_samples : int or None, default=2000
        Train on this many random rows at most; None takes all.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of these rows.
    n_jobs : int or None, default=None
        Probes to train at the same time, see :class:`joblib.Parallel`.

    Returns
    -------
    probing : LayerProbing
        A table of layers and one of experts.

    Raises
    ------
    TypeError
        If there is no mixture of torch modules in one of the estimators.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import layer_probing
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X[::2], y[::2])
    >>> probing = layer_probing(
    ...     classifier, X[1::2], y[1::2], X_train=X[::2], y_train=y[::2], random_state=0
    ... )
    >>> probing.layers["layer"].unique().tolist()
    ['input', 'hidden 1', 'hidden 2']
    """
    for rows, targets in ((X, y), (X_train, y_train)):
        _outputs.check_rows(rows, targets)
    if isinstance(domains, str):
        if domains != "own":
            raise ValueError(
                f'domains must be "own" or a fitted estimator, got {domains!r}: choose one.'
            )
        given = None
    else:
        mixture, rows = _outputs.unwrap(domains, X)
        given = mixture.gate_proba(rows).argmax(axis=1)
    n_train = len(y_train)
    if max_train_samples is not None and n_train > max_train_samples:
        chosen = check_random_state(random_state).permutation(n_train)[:max_train_samples]
        X_train, y_train = _safe_indexing(X_train, chosen), _safe_indexing(y_train, chosen)
    models = {"estimator": estimator} | ({} if reference is None else {"reference": reference})
    parts = [
        _probe_model(name, model, (X_train, y_train), (X, y), given, probe, tolerance, n_jobs)
        for name, model in models.items()
    ]
    layers, experts = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    metric = "accuracy" if is_classifier(_outputs.unwrap(estimator, None)[0]) else "rmse"
    return LayerProbing(layers, experts, metric, tolerance)


def _probe_model(
    name: str,
    estimator: Any,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    reference: Array | None,
    probe: Any,
    tolerance: float,
    n_jobs: int | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of one model."""
    mixture, X = _outputs.unwrap(estimator, test[0])
    X_train = _outputs.unwrap(estimator, train[0])[1]
    y, y_train = np.asarray(test[1]), np.asarray(train[1])
    classifies = is_classifier(mixture)
    outputs = _outputs.look(mixture, X)
    probed = probe_experts(
        outputs, _outputs.check_target(mixture, y, None), reference=reference
    ).experts
    domain = outputs.route if reference is None else reference
    rows_of = [
        np.flatnonzero(domain == own) if not pd.isna(own) else np.empty(0, dtype=np.int64)
        for own in probed["domain"]
    ]
    probe = _default_probe(classifies) if probe is None else probe
    of_train = hidden_layers(mixture, X_train, [np.arange(len(y_train))] * len(rows_of))
    of_test = hidden_layers(mixture, X, rows_of)
    jobs = [
        (expert, depth, layer)
        for expert, layers in enumerate(of_train)
        for depth, layer in enumerate(layers)
    ]
    scores = Parallel(n_jobs=n_jobs)(
        delayed(_score_probe)(
            probe,
            of_train[expert][layer],
            y_train,
            of_test[expert][layer],
            y[rows_of[expert]],
            classifies,
        )
        for expert, _, layer in jobs
    )
    table = pd.DataFrame(jobs, columns=["expert", "depth", "layer"])
    table.insert(0, "model", name)
    table["width"] = [of_train[expert][layer].shape[1] for expert, _, layer in jobs]
    table["score"] = scores
    experts = probed[["n_samples", "score"]].reset_index()
    experts.insert(0, "model", name)
    first = [
        _first_layer(table[table["expert"] == expert], score, classifies, tolerance)
        for expert, score in enumerate(experts["score"])
    ]
    experts["first_layer"] = [layer for layer, _ in first]
    experts["first_depth"] = pd.array([depth for _, depth in first], dtype="Int64")
    return table, experts


def _default_probe(classifies: bool) -> Any:
    if classifies:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))


def _score_probe(
    probe: Any, train: Array, y_train: Array, test: Array, y: Array, classifies: bool
) -> float:
    if not len(y):
        return float("nan")
    predicted = clone(probe).fit(train, y_train).predict(test)
    return float((accuracy_score if classifies else root_mean_squared_error)(y, predicted))


def _first_layer(
    layers: pd.DataFrame, score: float, classifies: bool, tolerance: float
) -> tuple[Any, Any]:
    """Name and depth of the first layer whose probe does as well as the expert."""
    if classifies:
        enough = layers["score"] >= score - tolerance - 1e-12
    else:
        enough = layers["score"] <= score * (1 + tolerance)
    if not enough.any():
        return None, pd.NA
    first = layers[enough].iloc[0]
    return first["layer"], int(first["depth"])


def hidden_layers(estimator: Any, X: Any, rows_of: list[Array]) -> list[Layers]:
    """Hidden units of each expert on rows of its own.

    Parameters
    ----------
    estimator : MoDEClassifier or MoDERegressor
        A fitted mixture.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows that it reads.
    rows_of : list of ndarray of int
        For each expert the positions of the rows to keep, in order.

    Returns
    -------
    layers : list of dict
        For each expert its layers in order, from what it reads (``"input"``) on, each with an
        ndarray of float64 of shape (n_kept, width).
    """
    module = getattr(getattr(estimator, "net_", None), "module_", None)
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            "estimator must keep its network in net_.module_, got "
            f"{type(estimator).__name__} without one: pass an estimator of skmode."
        )
    found: list[list[Layers]] = [[] for _ in rows_of]
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    for start in range(0, n_samples, BLOCK_ROWS):
        index = np.arange(start, min(start + BLOCK_ROWS, n_samples))
        of_block = _block_layers(estimator, module, _safe_indexing(X, index))
        for kept, rows, layers in zip(found, rows_of, of_block, strict=True):
            inside = rows[(rows >= start) & (rows <= index[-1])] - start
            kept.append({name: units[inside] for name, units in layers.items()})
    return [
        {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        for blocks in found
    ]


def _block_layers(estimator: Any, module: Any, X: Any) -> list[Layers]:
    inputs: list[torch.Tensor] = []
    experts = module.experts
    if not hasattr(experts, "expert"):  # multilayer perceptrons, computed side by side
        units: list[torch.Tensor] = []
        with (
            _outputs.hooked(module.trunk, inputs.append),
            _outputs.hooked(experts.activation, units.append),
        ):
            estimator.expert_predict(X)
        n_layers = len(experts.layers)
        by_layer = [torch.cat(units[i::n_layers], dim=1).double().cpu() for i in range(n_layers)]
        read = torch.cat(inputs).double().cpu().numpy()
        return [
            {"input": read}
            | {f"hidden {i}": layer[k].numpy() for i, layer in enumerate(by_layer, start=1)}
            for k in range(experts.n_experts)
        ]
    with _outputs.hooked(module.trunk, inputs.append):
        estimator.gate_proba(X)
    hidden = torch.cat(inputs)
    return [_module_layers(experts.expert(k), hidden) for k in range(experts.n_experts)]


def _module_layers(expert: torch.nn.Module, hidden: torch.Tensor) -> Layers:
    """Outputs of all modules in a module that have no further modules in them, and its own."""
    expert.eval()
    layers: Layers = {"input": hidden.double().cpu().numpy()}

    def keep(name: str) -> Any:
        def hook(_: torch.nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and len(output) == len(hidden):
                # A copy: a later layer may write into it.
                layers[name] = output.detach().double().cpu().flatten(1).numpy().copy()

        return hook

    for name, child in expert.named_modules():
        if name and not any(child.children()):
            child.register_forward_hook(keep(name))
    with torch.inference_mode():
        output = expert(hidden).double().cpu().numpy()
    last = next(reversed(layers.values()))
    if last.shape != output.shape or not np.array_equal(last, output):
        layers["output"] = output
    return layers
