"""The form in which all ``fetch_*`` functions return their tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.utils import Bunch


def categorize(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its columns of text as pandas categories."""
    text = [
        name
        for name, dtype in frame.dtypes.items()
        if pd.api.types.is_object_dtype(dtype) or isinstance(dtype, pd.StringDtype)
    ]
    return frame.astype(dict.fromkeys(text, "category"))


def to_bunch(
    frame: pd.DataFrame, target: str, descr: str, return_X_y: bool, **more: Any
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Split a table into features and target, and return them as scikit-learn does."""
    X, y = frame.drop(columns=target), frame[target]
    if return_X_y:
        return X, y
    return Bunch(data=X, target=y, frame=frame, feature_names=list(X.columns), DESCR=descr, **more)
