"""The instrument: checks its input and measures one way or the other."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length, check_random_state

from skmode._common.sklearn import safe_indexing
from skmode._common.unwrap import nested_estimators
from skmode.inspection._attention.gradients import attend_by_gradients, integrated_gradients
from skmode.inspection._attention.permutation import attend_by_permutation
from skmode.inspection._attention.result import ExpertAttention
from skmode.inspection._attention.saliency import attribute_regions
from skmode.inspection._attention.tokens import attribute_tokens
from skmode.inspection._evaluation import mixtures, targets


def expert_attention(
    estimator: Any,
    X: Any,
    y: Any,
    method: str = "permutation",
    *,
    sample_weight: Any = None,
    n_repeats: int = 5,
    n_steps: int = 32,
    max_samples: int | float = 1.0,
    random_state: Any = None,
    verbose: int = 0,
) -> ExpertAttention:
    r"""Measure how important each feature is for each expert on its domain, and for the gate.

    *Permutation*: a feature is shuffled among the rows of an expert's domain. Its importance is
    how much worse the expert alone gets there, in accuracy or in root mean squared error. For the
    gate, the feature is shuffled among all rows; its importance is the share of rows that then go
    to another expert.

    *Integrated gradients*: the gradients of an output are integrated along the straight line from
    a baseline to the row, at the input of gate and experts (behind the embeddings). The
    attributions are summed over the features of each column, and their absolute values are
    averaged over the rows. For an expert, the output is the probability of the class that it
    predicts, or the value that it predicts. For the gate, it is the weight of the expert that it
    chooses (with a sparse gate, in the softmax over all experts). The baseline has the training
    median in numeric columns, unknown categories and empty texts. The attributions of a row sum
    to its output minus that of the baseline. This holds up to an error, because the number of
    steps is finite; `completeness_error` measures it. It is largest for outputs that are steep
    between baseline and row, or have kinks, as with ReLU.

    Models of images have no columns. Their features are the regions of a grid of 4 x 4, and the
    baseline is the mean of each channel; :func:`expert_saliency` has maps of single images. The
    features of texts are the 30 tokens with the largest attributions by integrated gradients, and
    the baseline is an empty text; :func:`expert_tokens` has all tokens of each text.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one. In a Pipeline, permutation shuffles the columns of `X`, and
        integrated gradients are for the columns that the last step reads.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows, preferably unseen in training.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True classes or values. Integrated gradients ignore them.
    method : {"permutation", "integrated_gradients"}, default="permutation"
        How to measure.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    n_repeats : int, default=5
        How often each feature is shuffled; each time costs a forward pass.
    n_steps : int, default=32
        Points on the line from the baseline (Gauss-Legendre quadrature). More points lower
        `completeness_error`.
    max_samples : int or float, default=1.0
        Rows to measure on, drawn at random without replacement: a number of rows, or a share of
        them. `n_samples` of the result tells how many each expert had.
    random_state : int, RandomState instance or None, default=None
        Seed of the drawing and of the shuffling.
    verbose : int, default=0
        Above 0, permutation shows a progress bar over the features.

    Returns
    -------
    attention : ExpertAttention
        Importances of features for experts and gate.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator`, or integrated gradients find no torch network in it.
    ValueError
        If the input is invalid.

    Warns
    -----
    UserWarning
        If a completeness error of integrated gradients is above 0.05: of a probability, of a
        gate's weight, or of a standard deviation of the target.

    See Also
    --------
    skmode.inspection.ExpertAttentionDisplay : A picture of it.
    sklearn.inspection.permutation_importance : The same for a model as a whole.

    Notes
    -----
    The time of permutation grows with the rows and with the columns. With more than 32 columns,
    only the shuffled column is computed again, and the first layers' sums are corrected by it, so
    predictions may differ from the estimator's by rounding. Whole rows are computed again, which
    takes time for each column and each shuffle, in Pipelines and with an `expert_module`: lower
    `max_samples` or `n_repeats` there.

    References
    ----------
    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import expert_attention
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> attention = expert_attention(classifier, X, y, random_state=0)
    >>> attention.importances.columns.tolist()
    [0, 1, 'gate']
    """
    mixtures.in_memory(X)
    check_consistent_length(X, y)
    if method not in ("permutation", "integrated_gradients"):
        raise ValueError(
            'method must be "permutation" or "integrated_gradients", got '
            f"{method!r}: choose one of these."
        )
    if not all(
        isinstance(count, int | np.integer) and count >= 1 for count in (n_repeats, n_steps)
    ):
        raise ValueError(
            "n_repeats and n_steps must be whole numbers of at least 1, got "
            f"{n_repeats!r} and {n_steps!r}: correct the wrong one."
        )
    random_state = check_random_state(random_state)
    X, y, sample_weight = _draw(X, y, sample_weight, max_samples, random_state)
    mixture, rows = mixtures.unwrap(estimator, X)
    target = targets.check_target(mixture, y, sample_weight)
    if method == "permutation":
        return attend_by_permutation(estimator, X, target, n_repeats, random_state, verbose)
    names = None if rows is X else _names_behind(estimator)
    if mixtures.reads_images(mixture):
        attributions, names = attribute_regions(mixture, rows, n_steps)
    elif mixtures.reads_texts(mixture):
        attributions, names = attribute_tokens(mixture, rows, n_steps)
    else:
        attributions = integrated_gradients(mixture, rows, n_steps)
    return attend_by_gradients(mixture, attributions, target, n_steps, names)


def _draw(
    X: Any, y: Any, sample_weight: Any, max_samples: int | float, random_state: Any
) -> tuple[Any, Any, Any]:
    """Draw rows as scikit-learn's `permutation_importance` counts them."""
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    is_count = isinstance(max_samples, numbers.Integral)
    is_number = isinstance(max_samples, numbers.Real) and not isinstance(max_samples, bool)
    if not is_number or not (max_samples >= 1 if is_count else 0 < max_samples <= 1):
        raise ValueError(
            "max_samples must be a number of rows of at least 1, or a share above 0 and up to 1.0, "
            f"got {max_samples!r}: change it."
        )
    n_drawn = int(max_samples if is_count else max(1, max_samples * n_samples))
    if n_drawn >= n_samples:
        return X, y, sample_weight
    if scipy.sparse.issparse(X):
        X = X.tocsr()  # which has rows by position
    chosen = np.sort(random_state.permutation(n_samples)[:n_drawn])
    weight = None if sample_weight is None else safe_indexing(sample_weight, chosen)
    return safe_indexing(X, chosen), safe_indexing(y, chosen), weight


def _names_behind(estimator: Any) -> list[str] | None:
    """Return the names of the columns that the mixture reads, if all steps before it know them."""
    names: list[str] | None = None
    for part in nested_estimators(estimator):
        if isinstance(part, Pipeline) and len(part) > 1:
            try:
                names = list(part[:-1].get_feature_names_out(names))
            except (AttributeError, TypeError, ValueError):
                return None
    return names
