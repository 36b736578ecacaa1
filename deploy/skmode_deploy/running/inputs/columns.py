"""Convert one column to the numbers or strings that a graph reads, and refuse values.

A column is a numpy array, a list, or a column of pandas, polars or Arrow. Messages name the
column, and say what it must hold.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Column
from skmode_deploy.bundle.messages import as_sentence, list_names, short_repr

Array: TypeAlias = NDArray[Any]

FLOAT32_MAX = float(np.finfo(np.float32).max)
TEXT = {str}
PLAIN_INTEGERS = {int, bool}
PLAIN_NUMBERS = {float, int, bool, type(None)}
_DATES_CURE = ": make the same numbers of it as for training"


def convert_column(column: Column, values: Any) -> Array:
    """Convert a column value by value, to shape (n_rows, 1); the error names the bad value."""
    return _CONVERSIONS[column.dtype](column, values)


def plain_numbers(
    columns: Sequence[Any], n_rows: int, dtype: str, *, bools: bool = True
) -> Array | None:
    """Fill an array of shape (n_columns, n_rows, 1); None if a column is not plain.

    Bools are plain, unless they would have to be compared with categories.
    """
    block = np.empty((len(columns), n_rows, 1), dtype)
    kinds, types = ("ib", PLAIN_INTEGERS) if dtype == "int64" else ("fiub", PLAIN_NUMBERS)
    if not bools:
        kinds, types = kinds.replace("b", ""), types - {bool}
    with np.errstate(over="ignore"):
        for target, values in zip(block[:, :, 0], columns, strict=True):
            if type(values) is np.ndarray:
                plain = values.dtype.kind in kinds and values.ndim == 1
            else:
                plain = type(values) is list and types.issuperset(map(type, values))
            if not plain or len(values) != n_rows:  # numpy would repeat a single value
                return None
            target[:] = values
    if dtype != "int64" and np.count_nonzero(np.abs(block) > FLOAT32_MAX):
        return None
    return block


def plain_strings(columns: Sequence[Any], n_rows: int) -> Array | None:
    """Fill an array of strings, of shape (n_columns, n_rows, 1); None if one is not plain."""
    block = np.empty((len(columns), n_rows, 1), object)
    for target, values in zip(block[:, :, 0], columns, strict=True):
        if type(values) is np.ndarray and values.ndim == 1:
            values = values.tolist()
        if type(values) is not list or len(values) != n_rows:
            return None
        if not TEXT.issuperset(map(type, values)):
            values = ["" if value is None or value != value else value for value in values]
            if not TEXT.issuperset(map(type, values)):
                return None
        target[:] = values
    return block


def to_floats(values: list[Any]) -> NDArray[np.float64]:
    """Convert numbers of any kind, also those written as text, None and pandas.NA."""
    if PLAIN_NUMBERS.issuperset(map(type, values)):
        return np.array(values, dtype=np.float64)
    return np.array([_to_float(value) for value in values], dtype=np.float64)


def _to_float(value: Any) -> float:
    if value is None or type(value).__name__ == "NAType":
        return np.nan
    if isinstance(value, str):
        return float(value)  # as scikit-learn reads numbers that are text
    refuse_dates(getattr(value, "dtype", None))
    if not hasattr(value, "__float__") or hasattr(value, "__len__"):
        cure = _DATES_CURE if isinstance(value, date | time | timedelta) else ""
        raise TypeError(f"{value!r} is of type {type(value).__name__}{cure}")
    return float(value)


def refuse_dates(dtype: Any) -> None:
    """Raise for dates and complex numbers, which numpy would turn into floats."""
    of_polars = hasattr(dtype, "is_temporal") and dtype.is_temporal()
    if of_polars or getattr(dtype, "kind", "") in ("m", "M", "c"):
        cure = "" if getattr(dtype, "kind", "") == "c" else _DATES_CURE
        raise TypeError(f"it has type {dtype}{cure}")


def refuse_masked(values: Any, what: str, cure: str = "values.filled(np.nan)") -> None:
    """Raise for masked arrays: numpy would read the values under the mask."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(
            f"{what} must not be a masked array, because its mask would be lost: pass {cure}."
        )


def fail_infinite(what: str, dtype: np.dtype[Any]) -> None:
    raise ValueError(
        f"Numbers must be finite or missing (NaN) as {dtype}, but {what} contains infinity "
        f"or a value too large for dtype('{dtype}'): replace it by NaN or by a large number."
    )


def arrow_to_numpy(values: Any) -> Array:
    """Convert an Arrow array, with its nulls."""
    if hasattr(values.type, "index_type"):
        # to_numpy of a dictionary array turns nulls into one of its categories.
        values = values.cast(values.type.value_type)
    array: Array = values.to_numpy(zero_copy_only=False)
    # Integers with nulls become floats, which cannot hold all integers.
    if values.null_count and "int" in str(values.type) and (np.abs(array) >= 2.0**53).any():
        array = np.array(values.to_pylist(), dtype=object)
    return array


def unwrap(values: Any) -> Any:
    """Convert Arrow arrays and series to numpy arrays; leave everything else alone."""
    if type(values) is np.ndarray or type(values) is list:
        return values
    if hasattr(values, "to_pylist"):
        return arrow_to_numpy(values)
    array = values.to_numpy() if hasattr(values, "to_numpy") else values
    if getattr(array, "ndim", 1) > 1 and hasattr(values, "drop_nulls") and values.null_count():
        # Images of polars, which become floats beside a null: each is read in its own type.
        known = iter(values.drop_nulls().to_numpy())
        return [None if missing else next(known) for missing in values.is_null()]
    return array


def _to_column(values: Any, column: Column) -> Array:
    """Convert to an array of one dimension; lists become objects."""
    refuse_masked(values, f"Column {column.name!r}")
    # As objects, because numpy would turn a NaN beside strings into a string.
    array = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=object)
    if array.ndim != 1:
        raise ValueError(
            f"A column must have one dimension, but column {column.name!r} has shape "
            f"{array.shape}: pass a sequence of values."
        )
    return array


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, pandas.NA, NaT or an empty string."""
    if value is None or isinstance(value, str):
        return not value
    if getattr(value, "shape", ()):  # an array or a tensor, whatever it holds
        return False
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA compares to neither true nor false
        return True
    except ValueError:  # a cell of lists that hold arrays
        return False


def _to_numbers(column: Column, values: Any) -> Array:
    array = _to_column(values, column)
    try:
        refuse_dates(array.dtype)
        if column.kind == "category" and array.dtype.kind in "bO":
            _refuse_bools(column, array)
        if array.dtype.kind not in "fiub":
            cells = [None if isinstance(x, str) and not x else x for x in array.tolist()]
            if column.kind == "category":
                cells = [_match_number(column, x) if isinstance(x, str) else x for x in cells]
            array = to_floats(cells)
        with np.errstate(over="ignore"):
            numbers = np.asarray(array, dtype=column.dtype).reshape(-1, 1)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"Column {column.name!r} must hold numbers, but reading it failed: "
            f"{as_sentence(error)} Convert the column; a missing value is None or NaN."
        ) from None
    # Categories are only compared: an infinite one is just one that was not in training. Numbers of
    # float64 are read by the steps of a Pipeline, and the model reads their results as float32.
    is_number = column.kind == "number" or column.dtype == "float32"
    if is_number and (np.abs(numbers) > FLOAT32_MAX).any():
        fail_infinite(f"column {column.name!r}", np.dtype(np.float32))
    return numbers


def _to_integers(column: Column, values: Any) -> Array:
    array = _to_column(values, column)
    if array.dtype.kind in "ib" or (array.dtype.kind == "u" and array.dtype.itemsize < 8):
        return array.astype(np.int64, copy=False).reshape(-1, 1)
    # Not by tolist, which turns dates into integers.
    cells = list(array) if array.dtype.kind in "mM" else array.tolist()
    integers = [_to_integer(value) for value in cells]
    for value, integer in zip(cells, integers, strict=True):
        if integer is None:
            raise ValueError(
                f"Column {column.name!r} must hold integers of 64 bits, without missing values, "
                f"got {value!r} of type {type(value).__name__}: convert the column, and fill in "
                "missing values."
            )
    return np.array(integers, dtype=np.int64).reshape(-1, 1)


def _to_integer(value: Any) -> int | None:
    """Convert an integer or a whole float. None for anything else."""
    if not hasattr(value, "__int__") or hasattr(value, "__len__"):
        return None
    try:
        refuse_dates(getattr(value, "dtype", None))
        integer = int(value)
        if integer != value:
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    return integer if -(2**63) <= integer < 2**63 else None


def _to_strings(column: Column, values: Any) -> Array:
    array = _to_column(values, column)
    if array.dtype.kind in "mM":  # numpy may turn them into integers
        raise ValueError(
            f"Column {column.name!r} must hold strings, got type {array.dtype}: convert the column "
            "to strings, in the same way as for training."
        )
    # Only numpy's own scalars have the text of a float32.
    cells = list(array) if array.dtype == np.float32 else np.asarray(array, dtype=object)
    strings = ["" if is_missing(value) else value for value in cells]
    if not all(isinstance(value, str) for value in strings):
        texts = texts_of_values(column)
        strings = [x if isinstance(x, str) else match_string(column, texts, x) for x in strings]
    return np.array(strings, dtype=object).reshape(-1, 1)


# Values of another type than in training are matched with the categories that have the same text,
# one-to-one, and refused elsewhere: to treat them all as unseen would be wrong without a word. The
# estimator does the same.
TEXTS_OF_BOOLS = {True: "True", False: "False"}


def texts_of_values(column: Column) -> dict[Any, str] | None:
    """Map values to the categories that are their text; None unless all categories have one."""
    known = set(column.categories or ())
    if known and known <= set(TEXTS_OF_BOOLS.values()):
        return TEXTS_OF_BOOLS
    texts: dict[Any, str] = {}
    for text in known:
        number = number_of_text(text)
        if number is None or number in texts:  # "1" and "1.0" are the same number
            return None
        texts[number] = text
    return texts or None


def number_of_text(text: str) -> int | float | None:
    """Read a number that Python would write just so, unlike "01", "1e3" and "nan"."""
    for kind in (int, float):
        try:
            number: int | float = kind(text)
        except ValueError:
            continue
        if str(number) == text and np.isfinite(float(number)):
            return number
    return None


def _is_rounded(value: Any, known: Iterable[str]) -> bool:
    """Whether a float stands for several integers, of which none has its text."""
    return (
        isinstance(value, float | np.floating)
        and abs(value) >= 2 ** (np.finfo(type(value)).nmant + 1)
        and str(value) not in known
    )


def match_string(column: Column, texts: dict[Any, str] | None, value: Any) -> str:
    """Find the text of a number or bool, by what :func:`texts_of_values` found."""
    is_bool = isinstance(value, bool | np.bool_)
    is_number = isinstance(value, int | float | np.integer | np.floating | Decimal)
    fits = is_bool if texts is TEXTS_OF_BOOLS else is_number and not is_bool
    if texts is None or not fits or _is_rounded(value, texts.values()):
        guessed = f", for example by pandas.read_csv(..., dtype={{{column.name!r}: str}})"
        raise ValueError(
            f"Column {column.name!r} must hold strings, got {value!r} of type "
            f"{type(value).__name__}: read the column as strings, as in training"
            f"{guessed if is_number or is_bool else ''}."
        )
    return texts.get(value, str(value))


def _match_number(column: Column, text: str) -> int | float:
    number = number_of_text(text)
    if number is None:
        raise ValueError(f"{text!r} is of type str")
    return number


def _refuse_bools(column: Column, array: Array) -> None:
    """Raise if bools would be taken for the categories 0 and 1 where there are others."""
    known = column.categories or ()
    if {0, 1}.issuperset(known):
        return
    if array.dtype.kind == "b" or any(isinstance(x, bool | np.bool_) for x in array.flat):
        raise ValueError(
            f"it holds bools, but in training it held such numbers as {list(known[:3])}."
        )


def check_utf8(column: Column, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"Column {column.name!r} must hold strings that UTF-8 can encode, got {text!r}, which "
            "has half a surrogate pair: decode the data again."
        ) from None


def make_check(column: Column) -> Callable[[Array], None] | None:
    """Return a function that raises for values that the manifest refuses; None if it refuses none.

    It takes what :func:`convert_column` returns, as one dimension.
    """
    refuses = column.refuses or ()
    is_text = column.dtype == "string"
    checks: list[Callable[[Array], None]] = []
    if "missing" in refuses:
        checks.append(partial(_refuse_missing, column, is_text))
    if "unseen" in refuses:
        checks.append(partial(_refuse_unseen, column, is_text, set(column.categories or ())))
    if column.lowest is not None or column.highest is not None:
        checks.append(partial(_refuse_beyond, column))
    if not checks:
        return None

    def check(values: Array) -> None:
        for refuse in checks:
            refuse(values)

    return check


def _refuse_missing(column: Column, is_text: bool, values: Array) -> None:
    if "" in values.tolist() if is_text else np.isnan(values).any():
        raise ValueError(
            f"Column {column.name!r} must have no missing values, got some: the model or its graph "
            "failed on them at the export. Fill them in, fit a Pipeline that does so (by "
            "SimpleImputer), or export with rows that have them, if training had some."
        )


def _refuse_unseen(column: Column, is_text: bool, known: set[Any], values: Array) -> None:
    cells = values.tolist()
    if known.issuperset(cells):
        return
    # A missing value is another matter, which `refuses` states.
    unseen = [x for x in cells if x not in known and (x != "" if is_text else x == x)]
    if unseen:
        shown = known if is_text else {f"{x:g}" for x in known}
        raise ValueError(
            f"Column {column.name!r} must hold categories that the model knows, "
            f"{list_names(sorted(shown))}, got {short_repr(unseen[0])}: the model or its graph "
            "failed on unknown ones at the export. Correct the value, or fit and export with an "
            'encoder that takes them, such as OneHotEncoder(handle_unknown="ignore").'
        )


def _refuse_beyond(column: Column, values: Array) -> None:
    for limit, word, beyond in (
        (column.lowest, "least", np.less),
        (column.highest, "most", np.greater),
    ):
        if limit is not None and (bad := beyond(values, limit)).any():
            raise ValueError(
                f"Column {column.name!r} must hold numbers of at {word} {limit:g}, got "
                f"{values[bad][0].item():g}: the model or its graph failed on others at the "
                "export. Correct the value, or fit and export without the step that fails."
            )


_CONVERSIONS: dict[str, Callable[[Column, Any], Array]] = {
    "float32": _to_numbers,
    "float64": _to_numbers,
    "int64": _to_integers,
    "string": _to_strings,
}
