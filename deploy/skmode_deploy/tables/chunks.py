"""Tables in chunks of rows, so that a file of any length fits in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

CHUNK_ROWS = 8192


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file.

    Attributes
    ----------
    chunk_rows : int
        Number of rows of a chunk.
    keep : tuple of str
        Names of the columns to copy to the output.
    ignore_extra : bool
        Whether columns that the model does not know are passed over.
    by_position : bool
        Whether the model's columns are the first ones of the file, whatever their names.
    header : bool
        Whether a CSV file starts with the names.
    delimiter : str
        Character between the fields of a CSV file.
    missing : frozenset of str
        Fields of a CSV file that stand for a missing value, besides the empty one.
    """

    chunk_rows: int = CHUNK_ROWS
    keep: tuple[str, ...] = ()
    ignore_extra: bool = False
    by_position: bool = False
    header: bool = True
    delimiter: str = ","
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file.

    Attributes
    ----------
    rows : dict, ndarray or pyarrow.Table
        What a predictor takes.
    kept : list
        Columns to copy to the output.
    n_rows : int
        Number of rows.
    first : int
        Number of the first of them: its line in a CSV file, its row in a Parquet file.
    """

    rows: Any
    kept: list[Any]
    n_rows: int
    first: int


class Reader(Protocol):
    """A file as an iterator over its chunks: at least one, which is empty if there are no rows."""

    def __iter__(self) -> Iterator[Chunk]: ...


class Writer(Protocol):
    """Writes chunks of answers."""

    def write(self, kept: list[Any], answers: list[NDArray[Any]]) -> None: ...

    def close(self) -> None: ...
