"""A table as a sequence of chunks, so that files of any length fit in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

# Large enough that the cost per call does not count, small enough to need little memory.
CHUNK_ROWS = 8192


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file; `header`, `delimiter` and `missing` are for CSV files only."""

    chunk_rows: int = CHUNK_ROWS
    keep: tuple[str, ...] = ()  # names of the columns to copy to the output
    ignore_extra: bool = False  # ignore columns that the model does not use
    by_position: bool = False  # the model's columns are the first ones, whatever their names
    header: bool = True
    delimiter: str = ","
    missing: frozenset[str] = frozenset()  # fields that are missing values, besides the empty one


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file."""

    rows: Any  # a dict, array or Arrow table, as a predictor takes them
    kept: list[Any]  # columns to copy to the output
    n_rows: int
    first: int  # number of the first row: its line in a CSV file, its row in a Parquet file


class Reader(Protocol):
    """Iterates over the chunks of a file: at least one, which is empty if there are no rows."""

    def __iter__(self) -> Iterator[Chunk]: ...


class Writer(Protocol):
    """Writes the predictions of chunks."""

    def write(self, kept: list[Any], predictions: list[NDArray[Any]]) -> None: ...

    def close(self) -> None: ...
