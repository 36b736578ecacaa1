"""Every private name of scikit-learn that skmode uses, each with why and what would replace it."""

from collections.abc import Callable
from typing import Any, TypeVar

# Validates parameters before `fit` as scikit-learn's own estimators do. Public in none of its
# releases; without it `fit` would call `self._validate_params()`, which is private as well.
from sklearn.base import _fit_context

# The public names exist only after `from sklearn.experimental import enable_halving_search_cv`,
# which would change scikit-learn for everybody. Once these searches are no longer experimental,
# `sklearn.model_selection` has them.
from sklearn.model_selection._search_successive_halving import (
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
)

# Takes rows of any container by position. `sklearn.utils.safe_indexing` was public until 0.24;
# narwhals could take its place for tables, numpy for arrays.
from sklearn.utils import _safe_indexing as safe_indexing

# The language of parameter constraints, the error that they raise, and the decorator that checks a
# function by them. Without them each parameter would need a check and a message of its own.
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_params,
)

# Weights as a checked array, by scikit-learn's rules and messages. Nothing public does that.
from sklearn.utils.validation import _check_sample_weight

__all__ = [
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "check_sample_weight",
    "positive_label",
    "power_scaler",
    "safe_indexing",
    "validate_params",
    "validates_parameters",
]

Method = TypeVar("Method", bound=Callable[..., Any])


def validates_parameters(method: Method) -> Method:
    """Make `fit` or `partial_fit` check the estimator's own parameters first."""
    decorated: Method = _fit_context(prefer_skip_nested_validation=True)(method)
    return decorated


def check_sample_weight(sample_weight: Any, X: Any, **options: Any) -> Any:
    """Check weights as scikit-learn does; the name of a column is refused in words of our own."""
    if isinstance(sample_weight, str):
        raise TypeError(
            "sample_weight names a column only of a dataset; rows in memory need the values, got "
            f"{sample_weight!r}: pass the column, such as table[{sample_weight!r}], and leave it "
            "out of X."
        )
    return _check_sample_weight(sample_weight, X, **options)


def positive_label(model: Any) -> Any:
    """Get the label whose score a threshold classifier compares, None for the last class.

    A TunedThresholdClassifierCV takes it from its scorer, and has no public attribute for it.
    """
    scorer = getattr(model, "_curve_scorer", None)
    return model.pos_label if scorer is None else scorer._get_pos_label()


def power_scaler(model: Any) -> Any:
    """Get the StandardScaler behind a PowerTransformer with ``standardize=True``.

    Its mean and scale are in no public attribute.
    """
    return model._scaler
