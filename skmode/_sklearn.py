"""Private parts of scikit-learn that the package uses, why, and what would replace them."""

from __future__ import annotations

# Takes rows of tables of any kind and of arrays; scikit-learn's public splitters and `resample` use
# it, but draw the rows themselves. `X[rows]` for arrays and narwhals for tables would replace it.
from sklearn.utils import _safe_indexing as safe_indexing

__all__ = ["safe_indexing"]
