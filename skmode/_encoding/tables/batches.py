"""Learn and encode the columns of tables that are read in batches of Arrow.

Centers and scales come from a reservoir of each column's values, which is all of them up to
`RESERVOIR_ROWS` rows; everything else that is learned is exact.
"""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from skmode._common.batches import is_string
from skmode._encoding.columns import open_columns
from skmode._encoding.tables import (
    Column,
    TableEncoder,
    as_codes,
    as_numbers,
    learn_category,
    scaled_number,
)

# Values of each column that its center and scale come from: quartiles of so many have a standard
# error of 0.0009 in rank. Fewer where there are very many columns: with their keys and weights, at
# most 300 MB together.
RESERVOIR_ROWS, RESERVOIR_NUMBERS = 2**18, 2**23
FEWEST_RESERVOIR_ROWS = 2**12
# Batches may be small, and so many that it counts what each of them adds to a reservoir.
MOST_PARTS = 2**10


def read_numbers(name: str, values: Any) -> NDArray[np.float64]:
    """Read a column of Arrow as numbers that float32 can hold; missing values are NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    else:
        numbers = as_numbers(name, _series(values))
    largest = np.finfo(np.float32).max
    wrong = np.abs(numbers) > largest
    if wrong.any():
        raise ValueError(
            f"Numbers must be finite and at most {largest:.3g}, because they are read as float32, "
            f"got {numbers[wrong][0]:g} in column {name!r}: correct the value, or leave it missing."
        )
    found: NDArray[np.float64] = numbers
    return found


def read_codes(column: Column, values: Any) -> NDArray[np.int64]:
    """Encode a column of categories: each distinct value once."""
    distinct, positions = factorize(values)
    codes = as_codes(column, _series(distinct))
    missing = column.n_codes - 1 if column.has_missing else 0
    return np.append(codes, missing)[positions]


def factorize(values: Any) -> tuple[Any, NDArray[np.int64]]:
    """Distinct values, and the position of each row's among them; missing ones come after all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type):
        return values[:0], np.zeros(len(values), dtype=np.int64)
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary
    positions = pc.fill_null(encoded.indices, len(distinct)).to_numpy(zero_copy_only=False)
    return distinct, positions.astype(np.int64)


def encode_batch(
    encoder: TableEncoder, batch: Any
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Encode rows as :meth:`TableEncoder.transform` does; the batch has the encoder's columns."""
    names = {column.name: i for i, column in enumerate(encoder.columns_)}
    numeric, categorical = encoder.numeric_columns, encoder.categorical_columns
    numbers = np.empty((batch.num_rows, len(numeric)), dtype=np.float32)
    codes = np.empty((batch.num_rows, len(categorical)), dtype=np.int64)
    for i, column in enumerate(numeric):
        numbers[:, i] = read_numbers(column.name, batch.column(names[column.name]))
    for i, column in enumerate(categorical):
        codes[:, i] = read_codes(column, batch.column(names[column.name]))
    return numbers, codes


class LearnsColumns:
    """Learns the columns of a table from its batches.

    Attributes
    ----------
    encoder : TableEncoder
        What is learned; complete after :meth:`finish`.
    """

    def __init__(self, encoder: TableEncoder, sample: Any, rng: np.random.Generator) -> None:
        columns = open_columns(sample)
        chosen = encoder.choose_categories(sample)
        self.encoder = encoder
        self.rng = rng
        numbers = max(int((~chosen).sum()), 1)
        size = int(np.clip(RESERVOIR_NUMBERS // numbers, FEWEST_RESERVOIR_ROWS, RESERVOIR_ROWS))
        self._learning: list[_Categories | Reservoir] = [
            _Categories(name) if chosen[i] else Reservoir(name, size)
            for i, name in enumerate(columns.names)
        ]

    def read(self, batch: Any) -> list[Any]:
        """Read a batch, raising where a value is wrong; nothing is learned yet."""
        return [
            each.read(values) for each, values in zip(self._learning, batch.columns, strict=True)
        ]

    def learn(self, read: list[Any], kept: Any, weight: NDArray[np.float64] | None) -> None:
        """Learn from those rows of a batch that are kept: a mask, or None for all."""
        n_rows = len(read[0]) if kept is None else int(kept.sum())
        keys = self.rng.random(n_rows)
        for each, values in zip(self._learning, read, strict=True):
            each.learn(values if kept is None else _masked(values, kept), keys, weight)

    def finish(self) -> TableEncoder:
        """Build the encoder."""
        self.encoder.columns_ = [each.finish() for each in self._learning]
        return self.encoder


class _Categories:
    """The distinct values of one column."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._seen: Any = None

    def read(self, values: Any) -> Any:
        learn_category(self.name, _series(factorize(values)[0]))  # raises for dates and mixed types
        return values

    def learn(self, values: Any, keys: Any, weight: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        found = pc.unique(values)
        if self._seen is None or pa.types.is_null(found.type):
            missing = [] if self._seen is None else [pa.nulls(1, self._seen.type)]
            self._seen = found if self._seen is None else pa.concat_arrays([self._seen, *missing])
            return
        if pa.types.is_null(self._seen.type):
            self._seen = pa.nulls(1, found.type)
        if found.type != self._seen.type:  # int32 after int64, for example
            wide = pa.large_string() if is_string(found.type) else pa.float64()
            found, self._seen = found.cast(wide), self._seen.cast(wide)
        new = found.filter(pc.invert(pc.is_in(found, value_set=self._seen)))
        if len(new):
            self._seen = pa.concat_arrays([self._seen, new])

    def finish(self) -> Column:
        return learn_category(self.name, _series(self._seen))


class Reservoir:
    """A reservoir of the values of one column, each of which has the same chance to be in it.

    Those with the smallest random keys are kept.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self._limit = 1.0  # a larger key is not among the smallest any more
        self._parts: list[NDArray[np.float64]] = []  # keys, values and weights, (3, n_rows)
        self._n_rows = 0
        self._low, self._high = np.inf, -np.inf
        self._has_missing = False

    def read(self, values: Any) -> NDArray[np.float64]:
        """Read the values of a batch."""
        return read_numbers(self.name, values)

    def learn(self, values: Any, keys: NDArray[np.float64], weight: Any) -> None:
        """Add values, whose random keys tell which of them stay."""
        missing = np.isnan(values)
        chosen = keys < self._limit
        if missing.any():
            self._has_missing = True
            chosen &= ~missing
            if missing.all():
                return
        self._low = min(self._low, np.nanmin(values))
        self._high = max(self._high, np.nanmax(values))
        weights = np.ones(len(values)) if weight is None else weight
        self._parts.append(np.stack([keys[chosen], values[chosen], weights[chosen]]))
        self._n_rows += self._parts[-1].shape[1]
        if self._n_rows > 1.5 * self.size or len(self._parts) > MOST_PARTS:
            self._shrink()

    def _shrink(self) -> None:
        """Keep the values with the smallest keys, in their order."""
        whole = np.concatenate(self._parts, axis=1)
        if self._n_rows > self.size:
            kept = np.sort(np.argpartition(whole[0], self.size)[: self.size])
            whole = whole[:, kept]
            self._limit = float(whole[0].max())
        self._parts, self._n_rows = [whole], whole.shape[1]

    def drawn(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values and their weights, in the order of the rows."""
        self._shrink()
        _, values, weights = self._parts[0]
        return values, weights

    def finish(self) -> Column:
        """Center and scale the column."""
        if not self._n_rows:
            return Column(self.name, "number", has_missing=True)
        values, weights = self.drawn()
        return scaled_number(
            self.name,
            values,
            weights,
            (float(self._low), float(self._high)),
            has_missing=self._has_missing,
        )


def _masked(values: Any, kept: NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    return values[kept] if isinstance(values, np.ndarray) else values.filter(pa.array(kept))


def _series(values: Any) -> Any:
    """Wrap a column of Arrow as tables have it."""
    import pyarrow as pa

    return nw.from_native(pa.chunked_array([values]), series_only=True)
