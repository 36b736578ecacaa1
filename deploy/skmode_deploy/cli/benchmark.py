"""Measure how fast a predictor predicts random rows."""

import time
from typing import NamedTuple

import numpy as np

from skmode_deploy.bundle import Manifest
from skmode_deploy.running.predictor import Predictor
from skmode_deploy.running.random_rows import draw_rows

ROWS = (1, 1024, 16384)
MAX_VALUES = 2**26  # of all images of a call


class Speed(NamedTuple):
    """Median time of a call of `rows` rows, in milliseconds, and the rows per second at that."""

    rows: int
    calls: int
    median_ms: float
    rows_per_second: float


def default_rows(manifest: Manifest) -> list[int]:
    """Choose numbers of rows to measure: fewer of large images, which must fit in memory."""
    n_values = max(1, manifest.n_pixel_values)
    return sorted({min(n_rows, max(1, MAX_VALUES // n_values)) for n_rows in ROWS})


def measure(predictor: Predictor, n_rows: int, seconds: float) -> Speed:
    """Call `predict` on the same rows again and again for some seconds."""
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
