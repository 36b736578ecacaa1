"""How fast a predictor answers, on rows made up from what its manifest says."""

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Column, Manifest
from skmode_deploy.predictor import Predictor


class Speed(NamedTuple):
    """Time of one call.

    Attributes
    ----------
    rows : int
        Rows of a call.
    calls : int
        Number of calls measured.
    median_ms : float
        Median time of a call in milliseconds.
    rows_per_second : float
        Rows of a call by its median time.
    """

    rows: int
    calls: int
    median_ms: float
    rows_per_second: float


def draw_rows(manifest: Manifest, n_rows: int, seed: int = 0) -> Any:
    """Make rows up: numbers even over the range of training, categories as likely as each other.

    Parameters
    ----------
    manifest : Manifest
        What the model needs.
    n_rows : int
        Number of rows.
    seed : int, default=0
        Seed of the random numbers.

    Returns
    -------
    dict of ndarray, or ndarray of shape (n_rows, n_columns)
        What :meth:`skmode_deploy.Predictor.predict` takes.
    """
    rng = np.random.default_rng(seed)
    values = [_draw_column(column, n_rows, rng) for column in manifest.columns]
    if manifest.input == "array":
        return np.column_stack(values)
    return dict(zip((column.name for column in manifest.columns), values, strict=True))


def _draw_column(column: Column, n_rows: int, rng: np.random.Generator) -> NDArray[Any]:
    if column.kind == "category":
        known = list(column.categories or ()) or ["" if column.dtype == "string" else 0]
        dtype = object if column.dtype == "string" else np.dtype(column.dtype)
        return np.array(known, dtype=dtype)[rng.integers(len(known), size=n_rows)]
    low = 0.0 if column.minimum is None else column.minimum
    high = 1.0 if column.maximum is None else column.maximum
    share = rng.random(n_rows)
    # Not low + share * (high - low), for that difference may be infinite.
    return (low * (1 - share) + high * share).astype(column.dtype)


def measure(predictor: Predictor, n_rows: int, seconds: float) -> Speed:
    """Call `predict` again and again, and take the time.

    Parameters
    ----------
    predictor : Predictor
        What answers.
    n_rows : int
        Rows of a call.
    seconds : float
        How long to measure; one call is measured in any case.

    Returns
    -------
    Speed
        The median.
    """
    X = draw_rows(predictor.manifest, n_rows)
    predictor.predict(X)  # the first call is slower
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        predictor.predict(X)
        times.append(time.perf_counter() - start)
    median = float(np.median(times))
    return Speed(n_rows, len(times), median * 1e3, n_rows / median)
