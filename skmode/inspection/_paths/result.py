"""The result of a path, and the value that it recommends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from skmode.inspection._paths.metrics import is_greater_better


@dataclass(frozen=True, repr=False, eq=False)
class ParameterPath:
    """Result of :func:`alpha_path` or :func:`experts_path`.

    Attributes
    ----------
    parameter : {"alpha", "n_experts"}
        The parameter that was varied.
    metric : str
        Metric of the scores of mixture and top expert: "accuracy", "log_loss" (in nats), "rmse" (in
        units of the target), or the name of a scikit-learn scorer or of a function. Lower is
        better for "log_loss" and "rmse", greater for all others.
    folds : DataFrame
        One row per value and fold: the value in a column named after the parameter, `fold`,
        `mixture` and `top_expert` (scores on the test rows), `consistency`, `gate_recognition` and
        `usage_entropy` (entropy of the experts' shares of the test rows, in nats).
    summary : DataFrame
        One row per value; for each of these measures the `mean`, the standard deviation `std` over
        the folds and the standard error `sem` of the mean.
    best : float or int
        The value whose top expert has the best mean score.
    recommended : float or int
        The smallest value whose mean score is within one standard error of the best.
    reason : str
        Why it is recommended.
    task : {"classification", "regression"}
        What the mixture predicts.
    """

    parameter: str
    metric: str
    folds: pd.DataFrame
    summary: pd.DataFrame
    best: Any
    recommended: Any
    reason: str
    task: str = "classification"

    def __repr__(self) -> str:
        return f"<ParameterPath over {self.parameter}. {self.reason}>"


def recommend(scores: pd.DataFrame, metric: str, parameter: str) -> tuple[Any, Any, str]:
    """Return the best value, the smallest one within one standard error of it, and why.

    `scores` has one row per value with its `mean` and `sem`.
    """
    sign = 1 if is_greater_better(metric) else -1
    scores = scores.sort_index()
    best = (sign * scores["mean"]).idxmax()
    mean, error = scores.loc[best, "mean"], scores.loc[best, "sem"]
    recommended = scores.index[sign * scores["mean"] >= sign * mean - error][0]
    name = {"log_loss": "log loss", "rmse": "RMSE"}.get(metric, metric)
    found = f"the best {name} of the top expert, {mean:.4g} with a standard error of {error:.2g}"
    if recommended != best:
        why = (
            f"with {scores.loc[recommended, 'mean']:.4g} it is the smallest value within one "
            f"standard error of {parameter}={best:g}, which has {found}"
        )
    elif best != scores.index[0]:
        why = f"it has {found}; no smaller value comes within one standard error of it"
    else:
        why = f"it has {found}, and is the smallest value tried"
    reason = f"{parameter}={recommended:g} is recommended: {why}."
    return best.item(), recommended.item(), reason
