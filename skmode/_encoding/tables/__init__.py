"""Encode tables: numeric and categorical columns, with the categories that training saw."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from skmode._encoding.columns import Columns, SparseColumns, is_table, open_columns
from skmode._encoding.dates import column_dtype, refuse_dates
from skmode._encoding.matching import match_numbers, match_strings
from skmode._encoding.tables.arrays import finite_float32
from skmode._encoding.tables.strings import warn_of_strings
from skmode._encoding.tables.warning import warn_user

# Interquartile range of a standard normal variable: dividing by it gives unit variance.
NORMAL_QUARTILE_DISTANCE = 1.3489795003921634

QUARTILES = np.array([0.25, 0.5, 0.75])
# Of the numbers that are not the median, this share is at a usual distance from it; outliers are
# more than so many times as far away.
USUAL_SHARE, OUTLIER_DISTANCE = 0.9, 100.0
# Quartiles that are nearer to each other, as a share of that, differ by rounding.
ROUNDING = 1e-12

# In the order in which the network reads the columns.
KINDS = ("number", "category", "text", "image")

# float32: an array, or a sparse matrix in the form of rows.
Numbers: TypeAlias = NDArray[np.float32] | scipy.sparse.csr_array


@dataclass
class Column:
    """One input column as training saw it.

    Attributes
    ----------
    name : str
        Name of the column; ``"x0"``, ``"x1"``, ... for arrays.
    kind : {"number", "category", "text", "image"}
        How the column is encoded.
    categories : ndarray or None
        Sorted known categories, as strings (dtype object) or float64. None for numbers.
    has_missing : bool
        Whether training saw missing values.
    center, scale : float
        Median and robust scale of a number; 0 and 1 for categories.
    minimum, maximum : float or None
        Range of a number, missing values left out, as read in float32. None for categories and
        where all values were missing.
    text : object or None
        The tokens of a column of texts.
    image : object or None
        Size, colours and type of a column of images.
    """

    name: str
    kind: str
    categories: NDArray[Any] | None = None
    has_missing: bool = False
    center: float = 0.0
    scale: float = 1.0
    minimum: float | None = None
    maximum: float | None = None
    text: Any = None
    image: Any = None

    @property
    def n_codes(self) -> int:
        """Number of codes of a category column: unseen, the known ones, and missing if seen."""
        assert self.categories is not None
        return 1 + len(self.categories) + self.has_missing


class TableEncoder:
    """Turn tables and arrays into float32 numbers and int64 codes.

    Numbers stay as they are (NaN is missing); the trunk scales and fills them. A category becomes
    1 + its position among the sorted categories of training. A missing category gets the code
    after the last one if training saw missing values in that column. What training did not see,
    a new category or a first missing value, is code 0. An empty string counts as missing.

    Attributes
    ----------
    from_table_ : bool
        Whether training saw a DataFrame.
    columns_ : list of Column
        One item per input column, in order.
    """

    def __init__(self, categorical_features: Any = "from_dtype") -> None:
        self.categorical_features = categorical_features

    def fit(self, X: Any, sample_weight: NDArray[np.float64]) -> "TableEncoder":
        """Learn the columns of the training table."""
        self.from_table_ = is_table(X)
        columns = open_columns(X)
        kinds = self._kinds(columns)
        numbers = _Numbers(columns, np.flatnonzero(kinds == "number").tolist())
        self.columns_ = [
            _learn_number(name, numbers.column(i), sample_weight)
            if kinds[i] == "number"
            else self._learn(kinds[i], name, columns.column(i))
            for i, name in enumerate(columns.names)
        ]
        return self

    def choose_categories(self, X: Any) -> NDArray[np.bool_]:
        """Tell for each column of a table whether it will hold categories."""
        self.from_table_ = is_table(X)
        return self._categorical_mask(open_columns(X))

    def transform(self, X: Any) -> tuple[Numbers, NDArray[np.int64]]:
        """Encode rows; numbers of sparse columns stay a sparse matrix, in the form of rows."""
        if self._reads_arrays and isinstance(X, np.ndarray):
            return finite_float32(X, self.columns_), np.empty((len(X), 0), dtype=np.int64)
        columns = open_columns(X)
        names = [column.name for column in self.columns_]
        if self.from_table_ and is_table(X) and columns.names != names:
            raise ValueError(
                f"X must have the columns of training in their order, {names[:10]}, got "
                f"{columns.names[:10]}: select them by name."
            )
        positions: dict[str, list[int]] = {kind: [] for kind in KINDS}
        for i, column in enumerate(self.columns_):
            positions[column.kind].append(i)
        codes = [
            as_codes(self.columns_[i], values)
            for i, values in zip(
                positions["category"], columns.columns(positions["category"]), strict=True
            )
        ]
        n_samples = X.shape[0]
        return (
            _Numbers(columns, positions["number"]).to_float32(n_samples),
            np.column_stack(codes) if codes else np.empty((n_samples, 0), dtype=np.int64),
        )

    @property
    def _reads_arrays(self) -> bool:
        """Whether arrays can be encoded as a whole."""
        return not self.from_table_ and len(self.numeric_columns) == len(self.columns_)

    @property
    def numeric_columns(self) -> list[Column]:
        """The number columns in order."""
        return [column for column in self.columns_ if column.kind == "number"]

    @property
    def categorical_columns(self) -> list[Column]:
        """The category columns in order."""
        return [column for column in self.columns_ if column.kind == "category"]

    @property
    def text_columns(self) -> list[Column]:
        """The text columns in order."""
        return [column for column in self.columns_ if column.kind == "text"]

    @property
    def image_columns(self) -> list[Column]:
        """The columns of images in order."""
        return [column for column in self.columns_ if column.kind == "image"]

    def _kinds(self, columns: Columns) -> NDArray[Any]:
        """Tell the kind of each column."""
        return np.where(self._categorical_mask(columns), "category", "number")

    def _learn(self, kind: str, name: str, values: Any) -> Column:
        """Learn a column that holds no numbers."""
        assert kind == "category"
        column = learn_category(name, values)
        if isinstance(self.categorical_features, str):  # their type alone made them categories
            assert column.categories is not None
            warn_of_strings(name, column.categories, values)
        return column

    def _categorical_mask(
        self, columns: Columns, others: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """Tell for each column whether it holds categories; `others` are of another kind."""
        names = columns.names
        asked = self.categorical_features
        if asked is None:
            return np.zeros(len(names), dtype=bool)
        if isinstance(asked, str):
            if asked != "from_dtype":
                raise ValueError(
                    'categorical_features must be "from_dtype", None, a mask, positions or names, '
                    f"got {asked!r}: put a single name into a list."
                )
            if not self.from_table_:
                return np.zeros(len(names), dtype=bool)
            known = np.logical_or(columns.is_plain(), columns.is_sparse())
            if others is not None:
                known |= others
            return np.array(
                [not known and _is_categorical(columns.column(i)) for i, known in enumerate(known)]
            )
        return chosen_columns(asked, names, "categorical_features", named=self.from_table_)


def chosen_columns(
    asked: Any, names: list[str], parameter: str, *, named: bool
) -> NDArray[np.bool_]:
    """Turn a mask, positions or names into a mask; `named` tells whether columns have names."""
    chosen = np.asarray(asked)
    if chosen.ndim != 1:  # of a set, numpy makes an array without dimensions
        raise ValueError(
            f"{parameter} must be a list or an array of one dimension, of names, positions or a "
            f"bool for each column, got {asked!r} of type {type(asked).__name__}: pass a list."
        )
    if chosen.size == 0:
        return np.zeros(len(names), dtype=bool)
    if chosen.dtype == bool:
        if chosen.shape != (len(names),):
            raise ValueError(
                f"A {parameter} mask needs one entry per column: {len(names)}, "
                f"got shape {chosen.shape}: pass one bool for each column."
            )
        return chosen
    if chosen.dtype.kind in "iu":
        if chosen.min() < 0 or chosen.max() >= len(names):
            raise ValueError(
                f"{parameter} positions must lie in 0..{len(names) - 1}, "
                f"got {chosen.tolist()}: count the columns from 0."
            )
        return np.isin(np.arange(len(names)), chosen)
    unknown = [str(name) for name in chosen if str(name) not in names]
    if unknown or not named:
        raise ValueError(
            f"{parameter} names must be columns of a DataFrame, got {unknown or chosen.tolist()}: "
            f"the input has {names[:10]}{_prefix_cure(unknown, names)}."
        )
    return np.isin(names, chosen.astype(str))


def _prefix_cure(unknown: list[str], names: list[str]) -> str:
    """Write what helps if a ColumnTransformer renamed the columns that are looked for."""
    if not any(name.endswith(f"__{each}") for each in unknown for name in names):
        return ""
    return (
        ". A ColumnTransformer puts names in front of columns: "
        "set its verbose_feature_names_out=False"
    )


def _is_categorical(values: Any) -> bool:
    dtype = values.dtype
    if dtype.is_numeric() or dtype == nw.Boolean:
        return False
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return True
    # An object column of numbers with None among them is numeric.
    return dtype == nw.Object and _type_of_values(_as_objects(values)) == "string"


def _as_objects(values: Any) -> NDArray[Any]:
    """Values as objects, with None for everything that is missing."""
    missing: Any = False
    if isinstance(values, nw.Series):
        missing = values.is_null().to_numpy()
        values = values.to_numpy() if values.dtype == nw.Float32 else values.to_list()
    if getattr(values, "dtype", None) == np.float32:
        values = list(values)  # their text is shorter than that of the same numbers as float64
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    objects[pd.isna(objects) | missing] = None
    objects[[isinstance(value, str) and not value for value in objects]] = None
    return objects


def _type_of_values(objects: NDArray[Any]) -> str:
    inferred = pd.api.types.infer_dtype(objects, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty"):
        return "number"
    return "string" if inferred == "string" else inferred


def as_numbers(name: str, values: Any) -> NDArray[np.float64]:
    """Read a column as numbers; missing values are NaN."""
    refuse_dates(name, values)
    if isinstance(values, nw.Series):
        dtype = values.dtype
        if dtype == nw.Object:
            values = _as_objects(values)
        elif dtype.is_numeric() or dtype == nw.Boolean:
            values = values.cast(nw.Float64).to_numpy()
        elif dtype in (nw.String, nw.Categorical, nw.Enum) or values.is_null().all():
            values = _as_objects(values)
        else:
            raise ValueError(
                f"Columns must be numeric, bool, string or categorical, got column {name!r} of "
                f"type {column_dtype(values)}: make numbers or strings of it, or list it in "
                "image_features if it holds images."
            )
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"Column {name!r} must hold numbers, but reading it failed ({error}): "
            "convert the column, or list it in categorical_features, or in image_features if it "
            "holds images."
        ) from None


class _Numbers:
    """The number columns of a table: plain ones are read together, others one by one."""

    def __init__(self, columns: Columns, positions: list[int]) -> None:
        self._columns = columns
        self._positions = positions
        is_plain, is_sparse = columns.is_plain(), columns.is_sparse()
        self._plain = [i for i in positions if is_plain[i]]
        self._sparse = {i for i in positions if is_sparse[i]}
        self._block = columns.numbers(self._plain) if self._plain else np.empty((0, 0))
        self._place = {i: place for place, i in enumerate(self._plain)}

    def column(self, i: int) -> NDArray[np.float64]:
        """Return one column, dense."""
        if i in self._place:
            return self._block[:, self._place[i]].astype(np.float64, copy=False)
        if i in self._sparse:
            rows, values = self._columns.values_of(i)
            dense = np.zeros(self._columns.X.shape[0])
            dense[rows] = values
            return dense
        return as_numbers(self._columns.names[i], self._columns.column(i))

    def to_float32(self, n_samples: int) -> Numbers:
        """Return all columns; sparse if one of them is."""
        if self._sparse:
            return self._to_sparse(n_samples)
        found = np.empty((n_samples, len(self._positions)), dtype=np.float32)
        with np.errstate(over="ignore"):
            if self._plain == self._positions:
                found[:] = self._block if self._plain else 0
            else:
                for place, i in enumerate(self._positions):
                    found[:, place] = self.column(i)
        return finite_float32(found, [self._columns.names[i] for i in self._positions])

    def _to_sparse(self, n_samples: int) -> scipy.sparse.csr_array:
        """Put the values that are not zero side by side."""
        n_columns = len(self._columns.names)
        if isinstance(self._columns, SparseColumns) and len(self._sparse) == n_columns:
            matrix = self._columns.X.tocsr()
        else:
            parts = [self._nonzero(i) for i in self._positions]
            ends = np.cumsum([0, *(len(rows) for rows, _ in parts)])
            rows, values = (np.concatenate(part) for part in zip(*parts, strict=True))
            shape = n_samples, len(parts)
            matrix = scipy.sparse.csc_array((values, rows, ends), shape).tocsr()
        with np.errstate(over="ignore"):
            matrix = scipy.sparse.csr_array(matrix).astype(np.float32)
        if matrix.nnz:
            finite_float32(matrix.data[:, None])
        return matrix

    def _nonzero(self, i: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
        if i in self._sparse:
            rows, values = self._columns.values_of(i)
            return rows, np.asarray(values, dtype=np.float64)
        column = self.column(i)
        return np.flatnonzero(column), column[column != 0]


def _learn_number(name: str, values: Any, sample_weight: NDArray[np.float64]) -> Column:
    cells = as_numbers(name, values)
    known = ~np.isnan(cells)
    if not known.any():
        return Column(name, "number", has_missing=True)
    numbers = cells[known]
    with np.errstate(over="ignore", invalid="ignore"):
        extremes = numbers.min(), numbers.max()
        if not np.isfinite(np.asarray(extremes).astype(np.float32)).all():
            finite_float32(cells[:, None], [name])  # raises
    return scaled_number(
        name, numbers, sample_weight[known], extremes, has_missing=bool(not known.all())
    )


def scaled_number(
    name: str,
    numbers: NDArray[np.float64],
    sample_weight: NDArray[np.float64],
    extremes: tuple[float, float],
    *,
    has_missing: bool,
) -> Column:
    """Center and scale a column by its values, or by a sample beside the extremes of them all."""
    low, high = extremes
    q25, center, q75 = weighted_quantiles(numbers, sample_weight, QUARTILES)
    # A column whose middle half is constant is scaled by its range instead (arXiv 2407.04491), but
    # not by an outlier such as 999999999, beside which all other numbers would be the same.
    scale = (q75 - q25) / NORMAL_QUARTILE_DISTANCE
    least, most = low, high
    if scale <= 1e3 * ROUNDING * (high - low):
        least, most = outlier_bounds(numbers, sample_weight)
    if scale <= ROUNDING * (most - least):
        scale = (high - low) / 2 or 1.0
        if low < least or high > most:
            near = numbers[(numbers >= least) & (numbers <= most)]
            scale = (near.max() - near.min()) / 2 or scale
    scale = max(scale, float(np.finfo(np.float32).tiny))
    resolution = np.finfo(np.float32).eps * abs(center)
    if high > low and scale < 100 * resolution:
        warn_user(
            f"Numbers are read as float32, which has steps of {resolution:.2g} near {center:g}, "
            f"but column {name!r} varies by only {scale:.2g}: subtract a constant from it, for "
            "example the first date from a time stamp."
        )
    return Column(
        name,
        "number",
        has_missing=has_missing,
        center=float(center),
        scale=float(scale),
        minimum=float(np.float32(low)),
        maximum=float(np.float32(high)),
    )


def outlier_bounds(
    numbers: NDArray[Any], sample_weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Numbers beyond these are outliers; most numbers may be the same, or differ by rounding."""
    (center,) = weighted_quantiles(numbers, sample_weight, QUARTILES[1:2])
    others = numbers != center
    if not others.any():
        return float(center), float(center)
    distances = np.abs(numbers[others] - center)
    (usual,) = weighted_quantiles(distances, sample_weight[others], np.array([USUAL_SHARE]))
    reach = OUTLIER_DISTANCE * usual
    return float(center - reach), float(center + reach)


def without_outliers(
    numbers: NDArray[np.float64], sample_weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move outliers of each column, `(n_rows, n_columns)`, nearer; missing ones stay missing.

    A deviation that 999999999 makes thousands of times larger would hide all other numbers.
    """
    found = numbers.copy()
    for column in found.T:
        known = ~np.isnan(column)
        if known.any():
            column.clip(*outlier_bounds(column[known], sample_weight[known]), out=column)
    return found


def weighted_quantiles(
    values: NDArray[Any], sample_weight: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[Any]:
    """Quantiles; levels 0 and 1 are the extremes. A weight of k counts like k equal rows."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(sample_weight[order])
    share /= share[-1]
    # The tolerance keeps the result the same when all weights are multiplied by a constant.
    positions = np.searchsorted(share, levels - 1e-9)
    return values[order][positions]


def learn_category(name: str, values: Any) -> Column:
    """Learn the categories of a column."""
    refuse_dates(name, values, category=True)
    objects = _as_objects(values)
    missing = np.array([value is None for value in objects], dtype=bool)
    kind = _type_of_values(objects)
    if kind not in ("string", "number"):
        raise ValueError(
            f"A categorical column must hold only strings or only numbers, got {kind!r} values in "
            f"column {name!r}: convert the column to strings."
        )
    dtype = object if kind == "string" else np.float64
    if kind == "number" and any(abs(value) > 2**53 for value in objects[~missing]):
        raise ValueError(
            "Numeric categories must lie within 2**53 of zero, where float64 holds every integer, "
            f"got larger ones in column {name!r}: convert the column to strings."
        )
    categories = np.unique(objects[~missing].astype(dtype))
    return Column(name, "category", categories, bool(missing.any()))


def as_codes(column: Column, values: Any) -> NDArray[np.int64]:
    """Turn the values of a column of categories into their codes."""
    assert column.categories is not None
    refuse_dates(column.name, values, known=True)
    code_of: dict[Any, int] = {c: i for i, c in enumerate(column.categories.tolist(), start=1)}
    if column.has_missing:
        code_of[None] = column.n_codes - 1
    match = match_strings if column.categories.dtype == object else match_numbers
    objects = match(column.name, column.categories, _as_objects(values))
    codes = (code_of.get(value, 0) for value in objects)
    return np.fromiter(codes, dtype=np.int64, count=len(objects))
