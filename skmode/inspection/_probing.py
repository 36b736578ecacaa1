"""Expert probing: each expert alone, on its domain and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_consistent_length

from skmode._common.batches import is_dataset
from skmode.inspection._evaluation import forward, measures, mixtures, targets, weights

Array = NDArray[Any]


@dataclass(frozen=True, repr=False, eq=False)
class ExpertProbing:
    """Result of :func:`expert_probing`.

    Attributes
    ----------
    experts : DataFrame
        One row per expert: `domain`, the number of its domain (missing if there are fewer domains
        than experts); `n_samples` and `share`, the size of the domain in rows and as a share of
        the total weight; `score` and `score_rest`, the expert's own scores on its domain and on
        the other rows; `mixture_score` and `mixture_score_rest`, the mixture's on the same rows.
    score_matrix : DataFrame
        Score of each expert alone (rows) on each domain (columns).
    metric : {"accuracy", "rmse"}
        Metric of the scores: accuracy, or the root mean squared error in units of the target.
    mixture_score : float
        Score of the mixture on all rows.
    top_expert_score : float
        Score on all rows if each is predicted by its top expert alone.
    gate_recognition_accuracy : float
        Among rows that at least one expert gets right alone, the share that the gate sends to
        such an expert.
    error_types : DataFrame
        Rows that the mixture gets wrong, by reason; columns `n_samples`, `share` of all rows and
        `share_of_errors`.
    consistency : DataFrame
        Agreement of each pair of experts.
    mean_consistency : float
        Mean of `consistency` over the pairs.
    route_confusion : DataFrame or None
        Share of the samples by the reference's expert (rows) and the estimator's (columns). None
        without a reference.
    tolerance : float or None
        Regression: the largest distance of a prediction that counts as right.
    """

    experts: pd.DataFrame
    score_matrix: pd.DataFrame
    metric: str
    mixture_score: float
    top_expert_score: float
    gate_recognition_accuracy: float
    error_types: pd.DataFrame
    consistency: pd.DataFrame
    mean_consistency: float
    route_confusion: pd.DataFrame | None
    tolerance: float | None

    def __repr__(self) -> str:
        return (
            f"<ExpertProbing of {len(self.experts)} experts: {self.metric} of the mixture "
            f"{self.mixture_score:.4g}, of the top expert {self.top_expert_score:.4g}, "
            f"gate recognition accuracy {self.gate_recognition_accuracy:.4g}, "
            f"consistency {self.mean_consistency:.4g}>"
        )


def expert_probing(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    domains: Any = "own",
    sample_weight: Any = None,
    tolerance: float | None = None,
) -> ExpertProbing:
    r"""Score each expert alone, on the rows that the gate sends to it and on the others.

    An expert's *domain* is the set of rows on which its gate weight is the largest. Rows that the
    mixture gets wrong are of three types: *misrouted* (the top expert is wrong, another expert is
    right alone), *expert* (every expert is wrong alone) and *mixing* (the top expert is right
    alone). The *consistency* of two experts is the share of rows on which they predict the same
    class; for regression, it is 1 minus their mean squared difference divided by twice the
    variance of the target. One pass over the rows computes all experts.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one. Its `inference` is ignored.
    X : {array-like, DataFrame, dataset} of shape (n_samples, n_features)
        Rows, preferably unseen in training. Of a dataset, as `fit` reads it, some numbers for each
        row and expert are kept in memory.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or str or list of str
        True classes or values; of a dataset, the name of their column.
    domains : "own" or fitted estimator, default="own"
        The model whose gate divides the rows into domains. To compare a mixture with and without
        distillation, probe each on its own domains, and both on the domains of one. Experts of
        two models have no common order: each expert is matched with another domain, so that
        experts and domains share as many rows as possible.
    sample_weight : array-like of shape (n_samples,) or str, default=None
        Weights of the rows; of a dataset, the name of their column.
    tolerance : float, default=None
        Regression: a prediction is right if it is within this distance of the target, in units
        of the target. With several outputs the distance is the root mean square over them, in
        standard deviations of each. None means the mixture's root mean squared error, so that an
        expert is right where it is as good as the mixture usually is.

    Returns
    -------
    probing : ExpertProbing
        Scores, error types, consistency and, with a reference, the route confusion.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator` or `domains`.
    ValueError
        If the input is invalid.

    See Also
    --------
    skmode.inspection.ExpertProbingDisplay : A picture of it.
    skmode.inspection.layer_probing : At which layer an expert has solved its task.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893, where expert probing is introduced.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import expert_probing
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> probing = expert_probing(classifier, X, y)
    >>> list(probing.experts.columns)
    ['domain', 'n_samples', 'share', 'score', 'score_rest', 'mixture_score', 'mixture_score_rest']
    >>> print(f"{probing.experts['share'].sum():.1f}")
    1.0
    """
    mixture, rows = mixtures.unwrap(estimator, X, batches=True)
    y, sample_weight = targets.read_named(X, y, sample_weight)
    if not is_dataset(X):
        check_consistent_length(X, y)
    target = targets.check_target(mixture, y, sample_weight)
    reference = mixtures.assign_domains(domains, X)
    return probe(forward.evaluate(mixture, rows), target, reference=reference, tolerance=tolerance)


def probe(
    outputs: forward.Outputs,
    target: targets.Target,
    *,
    reference: Array | None = None,
    tolerance: float | None = None,
) -> ExpertProbing:
    """Probe from outputs that are there already, see :func:`expert_probing`."""
    n_experts = outputs.gate.shape[1]
    weight, route = target.weight, outputs.route
    judgement = measures.judge(outputs, target, tolerance)
    by_domain = _DomainSums.add_up(outputs, target, route if reference is None else reference)
    confusion = None if reference is None else _confusion(reference, route, weight, n_experts)
    own = np.arange(n_experts) if confusion is None else _match(confusion.to_numpy())
    agreement = measures.consistency(outputs, target)
    expert_index = pd.RangeIndex(n_experts, name="expert")
    return ExpertProbing(
        experts=by_domain.table(own, expert_index),
        score_matrix=pd.DataFrame(
            by_domain.score(by_domain.experts, by_domain.weight),
            index=expert_index,
            columns=pd.RangeIndex(len(by_domain.weight), name="domain"),
        ),
        metric="accuracy" if target.scale is None else "rmse",
        mixture_score=by_domain.overall(by_domain.mixture),
        top_expert_score=by_domain.overall(by_domain.top_expert),
        gate_recognition_accuracy=measures.gate_recognition(judgement.experts, route, weight),
        error_types=measures.error_types(judgement, route, weight),
        consistency=pd.DataFrame(
            agreement, index=expert_index, columns=expert_index.rename("other")
        ),
        mean_consistency=measures.mean_over_pairs(agreement),
        route_confusion=confusion,
        tolerance=judgement.tolerance,
    )


def route_confusion(
    estimator: Any, reference: Any, X: Any, *, sample_weight: Any = None
) -> pd.DataFrame:
    """Cross-tabulate rows by the experts that two mixtures route them to.

    Parameters
    ----------
    estimator : object
        A fitted mixture, or a Pipeline or search that ends with one.
    reference : object
        The other mixture, or a Pipeline or search that ends with one.
    X : {array-like, DataFrame, dataset} of shape (n_samples, n_features)
        Rows.
    sample_weight : array-like of shape (n_samples,) or str, default=None
        Weights of the rows; of a dataset, the name of their column.

    Returns
    -------
    confusion : DataFrame
        Share of the samples by the reference's expert (rows) and the estimator's (columns). The
        whole table sums to one.

    Raises
    ------
    TypeError
        If one of the two is not a mixture.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import route_confusion
    >>> X, y = load_iris(return_X_y=True)
    >>> plain = MoDEClassifier(n_experts=2, alpha=0, random_state=0).fit(X, y)
    >>> distilled = MoDEClassifier(n_experts=2, alpha=1, random_state=0).fit(X, y)
    >>> route_confusion(distilled, plain, X).shape
    (2, 2)
    """
    mixture, rows = mixtures.unwrap(estimator, X, batches=True)
    _, sample_weight = targets.read_named(X, [], sample_weight)
    gate = np.asarray(mixture.gate_proba(rows))
    weight = weights.weight_or_ones(sample_weight, len(gate))
    other, rows = mixtures.unwrap(reference, X, name="reference", batches=True)
    route = np.asarray(other.gate_proba(rows)).argmax(axis=1)
    return _confusion(route, gate.argmax(axis=1), weight, gate.shape[1])


@dataclass
class _DomainSums:
    """Weighted sums by domain of right predictions (n_out is 1) or squared errors."""

    n_samples: Array  # (n_domains,)
    weight: Array  # (n_domains,)
    experts: Array  # (n_experts, n_domains, n_out)
    mixture: Array  # (n_domains, n_out)
    top_expert: Array  # (n_domains, n_out)
    is_error: bool

    @classmethod
    def add_up(cls, outputs: forward.Outputs, target: targets.Target, domain: Array) -> _DomainSums:
        """Add up the rows of each domain; `domain` is the domain of each row, (n_samples,)."""
        n_experts = outputs.gate.shape[1]
        n_domains = max(n_experts, int(domain.max()) + 1)
        member = np.zeros((len(domain), n_domains))
        member[np.arange(len(domain)), domain] = target.weight
        if target.scale is None:
            experts = (outputs.experts == target.values[:, None])[:, :, None].astype(float)
            mixture = (outputs.mixture == target.values)[:, None].astype(float)
        else:
            experts = (outputs.experts - target.values[:, None]) ** 2
            mixture = (outputs.mixture - target.values) ** 2
        top = experts[np.arange(len(domain)), outputs.route]
        n_outputs = mixture.shape[1]
        by_expert = (member.T @ experts.reshape(len(domain), -1)).reshape(
            n_domains, n_experts, n_outputs
        )
        return cls(
            np.bincount(domain, minlength=n_domains),
            member.sum(axis=0),
            by_expert.transpose(1, 0, 2),
            member.T @ mixture,
            member.T @ top,
            target.scale is not None,
        )

    def score(self, sums: Array, weight: Array) -> Array:
        """Return accuracies or root mean squared errors; NaN where there are no rows."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / weight[:, None]
        return np.asarray((np.sqrt(means) if self.is_error else means).mean(axis=-1))

    def overall(self, sums: Array) -> float:
        """Return the score over all domains."""
        return float(self.score(sums.sum(axis=0)[None], self.weight.sum()[None])[0])

    def table(self, own: Array, index: pd.Index) -> pd.DataFrame:
        """Make the table of experts; `own` is the domain of each, -1 for none."""
        # Sums over the other domains, not differences: small errors would drown in large ones.
        others = 1 - np.eye(len(self.weight))
        rest = others @ self.weight
        of_rest = np.einsum("de,keo->kdo", others, self.experts)
        expert, missing = np.arange(len(own)), own < 0
        columns = {
            "n_samples": self.n_samples[own].astype(float),
            "share": self.weight[own] / self.weight.sum(),
            "score": self.score(self.experts, self.weight)[expert, own],
            "score_rest": self.score(of_rest, rest)[expert, own],
            "mixture_score": self.score(self.mixture, self.weight)[own],
            "mixture_score_rest": self.score(others @ self.mixture, rest)[own],
        }
        table = pd.DataFrame(columns, index=index)
        table.insert(0, "domain", pd.array(own, dtype="Int64"))
        table.loc[missing, "domain"] = pd.NA
        table.loc[missing, list(columns)] = np.nan
        return table.astype({"n_samples": "Int64"})


def _confusion(reference: Array, route: Array, weight: Array, n_experts: int) -> pd.DataFrame:
    """Return the share of the rows by two routes, each (n_samples,)."""
    n_domains = max(n_experts, int(reference.max()) + 1)
    counted = np.zeros((n_domains, n_experts))
    np.add.at(counted, (reference, route), weight)
    return pd.DataFrame(
        counted / counted.sum(),
        index=pd.RangeIndex(n_domains, name="reference"),
        columns=pd.RangeIndex(n_experts, name="expert"),
    )


def _match(confusion: Array) -> Array:
    """Return a domain for each expert (-1 for none), so that they share as many rows as possible.

    `confusion` has shape (n_domains, n_experts).
    """
    domain, expert = linear_sum_assignment(confusion, maximize=True)
    own: Array = np.full(confusion.shape[1], -1)
    own[expert] = domain
    return own
