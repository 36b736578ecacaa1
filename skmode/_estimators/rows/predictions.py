"""A teacher's predictions as the mixture reads them: checked, and in the order of its classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode._common.predictions import align, check_values


def no_probabilities(who: str) -> TypeError:
    """Build the error for a classifier's teacher that predicts labels or decision values alone."""
    return TypeError(
        f"The teacher of a classifier must have predict_proba, but {who} has none: wrap it in "
        "sklearn.calibration.CalibratedClassifierCV, which makes probabilities of decision values; "
        'a VotingClassifier needs voting="soft".'
    )


def read_probabilities(model: Any, X: Any, classes: NDArray[Any], who: str) -> NDArray[np.float64]:
    """Predict probabilities in the order of `classes`; a class unknown to the model gets zero."""
    if not hasattr(model, "predict_proba"):
        raise no_probabilities(who)
    known = getattr(model, "classes_", classes)
    return align(model.predict_proba(X), known, X.shape[0], classes, who)


def read_values(
    model: Any, X: Any, n_outputs: int, who: str, names: list[Any] | None = None
) -> NDArray[np.float64]:
    """Predict values, one column per target; `names` are those of y's columns."""
    return check_values(model.predict(X), X.shape[0], n_outputs, who, names)
