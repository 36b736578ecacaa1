"""Hourly bike rentals, out of the archive of islp."""

from __future__ import annotations

import io
import os
import zipfile

import pandas as pd
from sklearn.utils import Bunch

from skmode.datasets._archives import BIKESHARE, read_archive
from skmode.datasets._tables.bunches import categorize, to_bunch


def fetch_bikeshare(
    *, data_home: str | os.PathLike[str] | None = None, return_X_y: bool = False
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Fetch the bike rentals of 8,645 hours in Washington, D.C., for regression.

    The target ``bikers`` counts the rentals of an hour. The 12 features are season, month, day of
    the year, hour, holiday, weekday, working day and the weather. The columns ``casual`` and
    ``registered`` of the file, whose sum is the target, are left out. The archive is that of
    ISLP 0.6.0 (17 MB).

    Parameters
    ----------
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(data, target)``.

    Returns
    -------
    table : :class:`~sklearn.utils.Bunch` or tuple of (DataFrame, Series)
        With ``data``, ``target``, ``frame`` (both together), ``feature_names`` and ``DESCR``. Text
        (month and weather) is of pandas' ``category`` dtype.

    Examples
    --------
    >>> from skmode.datasets import fetch_bikeshare
    >>> bikeshare = fetch_bikeshare()  # doctest: +SKIP
    >>> bikeshare.data.shape  # doctest: +SKIP
    (8645, 12)
    """
    with zipfile.ZipFile(io.BytesIO(read_archive(BIKESHARE, data_home))) as archive:
        frame = pd.read_csv(io.BytesIO(archive.read("ISLP/data/Bikeshare.csv")))
    frame = categorize(frame.drop(columns=["casual", "registered"]))
    descr = f"Hourly bike rentals in Washington, D.C., as packed in {BIKESHARE.requirement}."
    return to_bunch(frame, "bikers", descr, return_X_y)
