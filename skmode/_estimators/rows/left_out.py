"""What stands in a pickle where a teacher's model was."""

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from skmode._estimators.rows.teaching import as_list, copy_unfitted, name_of


class LeftOutTeacher(BaseEstimator):
    """Names the frozen teacher that a pickle of a fitted mixture left out."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, X: Any, y: Any) -> "LeftOutTeacher":
        """Raise, because there is no model any more."""
        raise ValueError(
            f"The teacher must be an estimator, got what a pickle holds in the place of the frozen "
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
        LeftOutTeacher(name_of(each)) if isinstance(each, FrozenEstimator) else copy_unfitted(each)
        for each in as_list(teacher)
    ]
    if isinstance(teacher, list | tuple):
        return type(teacher)(kept)
    return kept[0] if kept else teacher


def check_present(teachers: list[Any]) -> None:
    """Raise if one of the teachers is only a name."""
    for teacher in teachers:
        if isinstance(teacher, LeftOutTeacher):
            teacher.predict(None)
