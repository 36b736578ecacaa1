"""Every private name of scikit-learn that skmode uses, each with why and what would replace it."""

# Takes rows of any container by position. `sklearn.utils.safe_indexing` was public until 0.24;
# narwhals could take its place for tables, numpy for arrays.
from sklearn.utils import _safe_indexing as safe_indexing

# The language of parameter constraints, and the decorator that checks a function's arguments by
# them. Without them each argument would need a check of its own with a message of its own.
from sklearn.utils._param_validation import Interval, validate_params

# Weights as a checked array, by scikit-learn's rules and messages. Nothing public does that.
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = ["Interval", "check_sample_weight", "safe_indexing", "validate_params"]
