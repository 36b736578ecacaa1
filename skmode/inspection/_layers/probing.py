"""Layer-wise probing: at which layer of an expert its task is already solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

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
from sklearn.utils import check_consistent_length, check_random_state

from skmode._common.sklearn import safe_indexing
from skmode.inspection._evaluation import forward, mixtures, targets, weights
from skmode.inspection._probing import probe as probe_experts

Array = NDArray[Any]

# Hidden units of an expert by name of the layer, each (n_samples, width).
Layers = dict[str, Array]

# Rows whose hidden units are in memory at once.
BLOCK_ROWS = 4096


@dataclass(frozen=True, repr=False, eq=False)
class LayerProbing:
    """Result of :func:`layer_probing`.

    Attributes
    ----------
    layers : DataFrame
        One row per layer, expert and model: `model` (``"estimator"`` or ``"reference"``),
        `expert`, `depth` (0 is the input of gate and experts), `layer` (its name), `width`, and
        `score`, that of the linear probe on the rows of the expert's domain.
    experts : DataFrame
        One row per expert and model: `model`, `expert`, its `domain` with `n_samples` rows, the
        expert's own `score` there, the score to reach (`bar`: the expert's own, or on common
        domains the better one of the two models' experts), and `first_layer` and `first_depth`,
        the first layer whose probe reaches the bar (missing if none does).
    metric : {"accuracy", "rmse"}
        Metric of the scores: accuracy, or the root mean squared error in units of the target.
    tolerance : float
        How much worse than `bar` still counts as reaching it.
    """

    layers: pd.DataFrame
    experts: pd.DataFrame
    metric: str
    tolerance: float

    def __repr__(self) -> str:
        # A mean depth alone would flatter a model whose experts rarely get there.
        parts = []
        for model, part in self.experts.groupby("model", sort=False):
            depths = part["first_depth"].dropna().astype(float)
            mean = f" at depth {depths.mean():.2g} on average" if len(depths) else ""
            n_tasks = part["bar"].notna().sum()  # an expert without rows has no task
            parts.append(f"{model}: {len(depths)} of {n_tasks} tasks solved{mean}")
        return f"<LayerProbing, {'; '.join(parts)}>"


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
    sample_weight: Any = None,
    sample_weight_train: Any = None,
    tolerance: float = 0.01,
    max_train_samples: int | None = 2000,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> LayerProbing:
    """Train a linear probe on each hidden layer of each expert, and score it on its domain.

    An expert's task is solved at the first layer whose probe does as well on the expert's domain
    as the expert itself. Layer 0 is the input of all experts: if its probe does as well, the
    domain is a linear task.

    To compare two models, pass one as `reference`, and pass as `domains` the fitted estimator
    whose gate divides the rows for both. On each domain the probes of both models must then reach
    the score of the better expert. If each model has its own domains, its probes must only reach
    the expert's own score. A worse expert then seems to solve its task earlier, because its score
    is easier to reach.

    Where experts of texts have a linear part (`linear_share`), each layer passes on what it says,
    so the probes read it, too, from the input on.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows to score on, preferably unseen in training.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True classes or values.
    X_train : {array-like, DataFrame} of shape (n_train_samples, n_features)
        Rows to train the probes on.
    y_train : array-like of shape (n_train_samples,) or (n_train_samples, n_outputs)
        Classes or values of `X_train`.
    domains : "own" or fitted estimator, default="own"
        The model whose gate divides the rows into domains, see :func:`expert_probing`. With a
        fitted estimator, both models have the same domains and the same scores to reach.
    reference : fitted estimator, default=None
        A second model to probe, such as the same one without distillation (``alpha=0``); best
        with ``domains=reference``.
    probe : estimator, default=None
        Trained on the hidden units. None means a logistic regression, or a ridge regression with
        the penalty of the smallest leave-one-out error, on standardised units.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows to score on, for the scores of probes and experts.
    sample_weight_train : array-like of shape (n_train_samples,), default=None
        Weights of the rows to train the probes on; a Pipeline passes them to its last step.
    tolerance : float, default=0.01
        How much worse a probe may be: its accuracy lower by this much, or its error larger by
        this share.
    max_train_samples : int or None, default=2000
        Train on at most this many rows, chosen at random; None takes all. Rows without weight are
        left out first.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of training rows.
    n_jobs : int or None, default=None
        Number of probes to train at the same time, see :class:`joblib.Parallel`.

    Returns
    -------
    probing : LayerProbing
        A table of layers and one of experts.

    Raises
    ------
    TypeError
        If one of the estimators is not a mixture or has no torch network.
    ValueError
        If the input is invalid, or the probes' training rows hold a single class.

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
    _check_options(tolerance, max_train_samples)
    test = _Rows.check(X, y, sample_weight)
    train = _Rows.check(X_train, y_train, sample_weight_train)
    models = {"estimator": estimator} | ({} if reference is None else {"reference": reference})
    for name, model in models.items():
        mixture, _ = mixtures.unwrap(model, None, name=name)
        for rows in (test, train):
            targets.check_target(mixture, rows.y, rows.weight)
    given = mixtures.assign_domains(domains, X)
    train = _some_rows(train, max_train_samples, random_state)
    if is_classifier(mixture):
        _check_classes(train.y)
    parts = [
        _probe_model(name, model, train, test, given, probe, n_jobs)
        for name, model in models.items()
    ]
    layers, experts = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    metric = "accuracy" if is_classifier(mixture) else "rmse"
    experts["bar"] = experts["score"] if given is None else _common_bars(experts, metric)
    experts = _add_first_layers(experts, layers, metric, tolerance)
    return LayerProbing(layers, experts, metric, tolerance)


class _Rows(NamedTuple):
    """Rows to train or to score a probe on."""

    X: Any
    y: Array  # true classes or values
    weight: Array | None

    @classmethod
    def check(cls, X: Any, y: Any, sample_weight: Any) -> _Rows:
        mixtures.in_memory(X)
        check_consistent_length(X, y)
        return cls(X, np.asarray(y), weights.check_weight(sample_weight, len(y)))


def _check_options(tolerance: Any, max_train_samples: Any) -> None:
    if not (isinstance(tolerance, int | float | np.number) and 0 <= tolerance < np.inf):
        raise ValueError(
            f"tolerance must be zero or more, got {tolerance!r}: pass a number such as 0.01, by "
            "which a probe may be worse."
        )
    whole = isinstance(max_train_samples, int | np.integer) and max_train_samples >= 1
    if max_train_samples is not None and not whole:
        raise ValueError(
            "max_train_samples must be a whole number of at least 1, or None for all rows, got "
            f"{max_train_samples!r}: raise it, or pass None."
        )


def _check_classes(y_train: Array) -> None:
    found = np.unique(y_train)
    if len(found) < 2:
        raise ValueError(
            "The training rows of the probes must contain at least two classes, got "
            f"{found.tolist()} in {len(y_train)} rows: pass more rows as X_train, or raise "
            "max_train_samples."
        )


def _some_rows(rows: _Rows, max_samples: int | None, random_state: Any) -> _Rows:
    """Keep rows with a weight, at most `max_samples` of them, chosen at random."""
    n_samples = len(rows.y)
    chosen = np.arange(n_samples) if rows.weight is None else np.flatnonzero(rows.weight)
    if max_samples is not None and len(chosen) > max_samples:
        chosen = chosen[check_random_state(random_state).permutation(len(chosen))[:max_samples]]
    if len(chosen) == n_samples:
        return rows
    weight = None if rows.weight is None else rows.weight[chosen]
    return _Rows(safe_indexing(rows.X, chosen), rows.y[chosen], weight)


def _probe_model(
    name: str,
    estimator: Any,
    train: _Rows,
    test: _Rows,
    reference: Array | None,
    probe: Any,
    n_jobs: int | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the probes and the experts of one model: a table of layers and one of experts.

    `reference` is the common domain of each row, (n_samples,), or None for the model's own.
    """
    mixture, X = mixtures.unwrap(estimator, test.X)
    X_train = mixtures.unwrap(estimator, train.X)[1]
    classifies = is_classifier(mixture)
    outputs = forward.evaluate(mixture, X)
    target = targets.check_target(mixture, test.y, test.weight)
    probed = probe_experts(outputs, target, reference=reference).experts
    domain = outputs.route if reference is None else reference
    rows_of = [
        np.flatnonzero(domain == own) if not pd.isna(own) else np.empty(0, dtype=np.int64)
        for own in probed["domain"]
    ]
    probe = _default_probe(classifies) if probe is None else probe
    of_train = hidden_layers(mixture, X_train, [np.arange(len(train.y))] * len(rows_of))
    of_test = hidden_layers(mixture, X, rows_of)
    jobs = [
        (expert, depth, layer)
        for expert, layers in enumerate(of_train)
        for depth, layer in enumerate(layers)
    ]
    scores = Parallel(n_jobs=n_jobs)(
        delayed(_score_probe)(
            probe,
            train._replace(X=of_train[expert][layer]),
            _Rows(
                of_test[expert][layer],
                test.y[rows_of[expert]],
                None if test.weight is None else test.weight[rows_of[expert]],
            ),
            classifies,
        )
        for expert, _, layer in jobs
    )
    table = pd.DataFrame(jobs, columns=["expert", "depth", "layer"])
    table.insert(0, "model", name)
    table["width"] = [of_train[expert][layer].shape[1] for expert, _, layer in jobs]
    table["score"] = scores
    experts = probed[["domain", "n_samples", "score"]].reset_index()
    experts.insert(0, "model", name)
    return table, experts


def _common_bars(experts: pd.DataFrame, metric: str) -> pd.Series:
    """Return for each expert the best score that any model's expert has on its domain."""
    of_domain = experts.groupby("domain")["score"]  # leaves out experts without a domain
    return of_domain.transform("max" if metric == "accuracy" else "min")


def _add_first_layers(
    experts: pd.DataFrame, layers: pd.DataFrame, metric: str, tolerance: float
) -> pd.DataFrame:
    of_expert = dict(list(layers.groupby(["model", "expert"])))
    first = [
        _first_layer(of_expert[row.model, row.expert], row.bar, metric == "accuracy", tolerance)
        for row in experts.itertuples()
    ]
    return experts.assign(
        first_layer=[layer for layer, _ in first],
        first_depth=pd.array([depth for _, depth in first], dtype="Int64"),
    )


def _default_probe(classifies: bool) -> Any:
    if classifies:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))


def _score_probe(probe: Any, train: _Rows, test: _Rows, classifies: bool) -> float:
    if not len(test.y) or (test.weight is not None and not test.weight.any()):
        return float("nan")
    options = {} if train.weight is None else weights.weight_arguments(probe, train.weight)
    predicted = clone(probe).fit(train.X, train.y, **options).predict(test.X)
    score = accuracy_score if classifies else root_mean_squared_error
    return float(score(test.y, predicted, sample_weight=test.weight))


def _first_layer(
    layers: pd.DataFrame, bar: float, classifies: bool, tolerance: float
) -> tuple[Any, Any]:
    """Return name and depth of the first layer whose probe does well enough, or missing values."""
    if classifies:
        enough = layers["score"] >= bar - tolerance - 1e-12
    else:
        enough = layers["score"] <= bar * (1 + tolerance)
    if not enough.any():
        return None, pd.NA
    first = layers[enough].iloc[0]
    return first["layer"], int(first["depth"])


def hidden_layers(estimator: Any, X: Any, rows_of: list[Array]) -> list[Layers]:
    """Return the hidden units of each expert; `rows_of` has the positions of rows for each."""
    module = mixtures.find_network(estimator)
    if module is None:
        raise TypeError(
            "estimator must keep its network in net_.module_, got "
            f"{type(estimator).__name__} without one: pass MoDEClassifier or MoDERegressor."
        )
    found: list[list[Layers]] = [[] for _ in rows_of]
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    for start in range(0, n_samples, BLOCK_ROWS):
        index = np.arange(start, min(start + BLOCK_ROWS, n_samples))
        of_block = _block_layers(estimator, module, safe_indexing(X, index))
        for kept, rows, layers in zip(found, rows_of, of_block, strict=True):
            inside = rows[(rows >= start) & (rows <= index[-1])] - start
            kept.append({name: units[inside] for name, units in layers.items()})
    return [
        {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        for blocks in found
    ]


def _block_layers(estimator: Any, module: Any, X: Any) -> list[Layers]:
    """Return the hidden units of each expert on all rows of X."""
    inputs: list[torch.Tensor] = []
    experts = module.experts
    if not hasattr(experts, "expert"):  # multilayer perceptrons, computed side by side
        units: list[torch.Tensor] = []
        with (
            forward.hooked(module.trunk, inputs.append),
            forward.hooked(experts.activation, units.append),
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
    with forward.hooked(module.trunk, inputs.append):
        estimator.gate_proba(X)
    hidden = torch.cat(inputs)
    return [_module_layers(experts.expert(k), hidden) for k in range(experts.n_experts)]


def _module_layers(expert: torch.nn.Module, hidden: torch.Tensor) -> Layers:
    """Return the outputs of the innermost modules of an expert in order, and its own output."""
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
