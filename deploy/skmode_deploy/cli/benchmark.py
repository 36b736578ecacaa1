"""How fast a predictor answers, on rows made up from what its manifest says."""

import time
from typing import NamedTuple

import numpy as np

from skmode_deploy.running.predictor import Predictor
from skmode_deploy.running.random_rows import draw_rows


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


def measure(predictor: Predictor, n_rows: int, seconds: float) -> Speed:
    """Call `predict` again and again, and take the time."""
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
