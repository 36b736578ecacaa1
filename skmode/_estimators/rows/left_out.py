"""What stands in a pickle where a teacher's model was."""

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from skmode._estimators.rows.teaching import (
    as_list,
    collect,
    copy_unfitted,
    find_inside,
    holds_model,
    name_of,
)


class LeftOutTeacher(BaseEstimator):
    """Names the frozen teacher that a pickle of a fitted mixture left out."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, X: Any, y: Any) -> "LeftOutTeacher":
        """Raise, because there is no model any more."""
        raise ValueError(
            "The teacher must be an estimator, got what a pickle holds in the place of the frozen "
            f"{self.name}, whose model it left out: set it again, with "
            "set_params(teacher=FrozenEstimator(model)), or set teacher=None."
        )

    def predict(self, X: Any) -> Any:
        """Raise as `fit` does."""
        return self.fit(X, None)

    predict_proba = predict


def without_models(teacher: Any) -> Any:
    """Replace teachers that hold a model: frozen ones by their names, fitted ones by new ones."""
    kept = [
        each if isinstance(each, FrozenEstimator) else copy_unfitted(each)
        for each in as_list(teacher)
    ]
    if isinstance(teacher, list | tuple):
        return _named(type(teacher)(kept))
    return _named(kept[0]) if kept else teacher


def _named(value: Any) -> Any:
    """Replace frozen estimators by their names, also among items and parameters of a copy."""
    if isinstance(value, FrozenEstimator):
        return LeftOutTeacher(name_of(value))
    if not holds_model(value):
        return value
    if isinstance(value, list | tuple):
        return collect(map(_named, value), value)
    if isinstance(value, dict):
        return {name: _named(each) for name, each in value.items()}
    parameters = value.get_params(deep=False)
    changed = {name: _named(each) for name, each in parameters.items() if holds_model(each)}
    return value.set_params(**changed)


def check_present(teacher: Any) -> None:
    """Raise if a teacher, or a part of one, is only a name."""
    for left_out in find_inside(teacher, LeftOutTeacher):
        left_out.predict(None)
