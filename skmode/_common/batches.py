"""Rows that are read in batches: datasets of Arrow, and functions that open record batches.

pyarrow is imported only where such rows are read.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

# Rows of a block, and numbers of one that has very many columns: 128 MB as float64.
BLOCK_ROWS, BLOCK_NUMBERS = 2**16, 2**24
# Bytes that are read at once of each column of a Parquet file. Without a buffer pyarrow would hold
# whole row groups, which have a million rows by default.
BUFFER_BYTES = 2**18

# Parts of a file that tell it from others, and their bytes: smaller files are read whole.
SAMPLES, SAMPLE_BYTES = 8, 2**13

Result = TypeVar("Result")


class Block(NamedTuple):
    """Rows that follow each other in one file.

    Attributes
    ----------
    batch : pyarrow.RecordBatch
        The rows.
    place : str
        Where they come from, for errors.
    start : int
        Number of the first row there, counted from 0.
    """

    batch: Any
    place: str
    start: int

    def apply(self, function: Callable[[Any], Result]) -> Result:
        """Call a function with the rows; an error of it names the first row that raises it."""
        try:
            return function(self.batch)
        except (ValueError, TypeError) as error:
            row, found = self._first_wrong(function, error)
            kind = TypeError if isinstance(found, TypeError) else ValueError
            raise kind(f"{self.place}, row {self.start + row} (from 0): {found}") from error

    def _first_wrong(
        self, function: Callable[[Any], Any], error: Exception
    ) -> tuple[int, Exception]:
        """Halve the rows until one is left, with the error that it raises."""
        good, bad = 0, self.batch.num_rows
        while bad - good > 1:
            middle = (good + bad) // 2
            failed = _error_of(function, self.batch.slice(0, middle))
            good, bad = (middle, bad) if failed is None else (good, middle)
        return good, _error_of(function, self.batch.slice(good, 1)) or error


def _error_of(function: Callable[[Any], Any], batch: Any) -> Exception | None:
    try:
        function(batch)
    except (ValueError, TypeError) as error:
        return error
    return None


def is_dataset(X: Any) -> bool:
    """Whether rows come in batches: from a dataset of Arrow, or a function that opens a reader."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None and isinstance(X, arrow.RecordBatchReader):
        return True
    dataset = sys.modules.get("pyarrow.dataset")
    if dataset is not None and isinstance(X, dataset.Dataset):
        return True
    return callable(X) and not hasattr(X, "shape")


def refuse_dataset(X: Any, who: str, instead: str) -> None:
    """Raise if rows come in batches where they must be in memory."""
    if is_dataset(X):
        raise TypeError(f"{who} must hold its rows in memory, got {type(X).__name__}: {instead}.")


def open_batches(X: Any) -> BatchSource:
    """Open rows that come in batches, as often as they are read."""
    try:
        import pyarrow as pa
        import pyarrow.dataset as ds
    except ImportError as error:
        raise ImportError(
            "Rows in batches need pyarrow, got an environment without it: install it by "
            'pip install "skmode[arrow]".'
        ) from error
    if isinstance(X, pa.RecordBatchReader):
        raise TypeError(
            "Rows in batches are read several times, got a RecordBatchReader, which can be read "
            "once: pass a function that opens it, such as lambda: open_reader(path), or a "
            "pyarrow.dataset.Dataset."
        )
    return DatasetSource(X) if isinstance(X, ds.Dataset) else ReaderSource(X)


class BatchSource:
    """Rows in blocks.

    Attributes
    ----------
    types : dict
        Type of each column.
    """

    types: dict[str, Any]

    # What to do where no rows were found.
    _without_rows = "check the path, the partitions and the filter"

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Read some columns of all rows, in their order."""
        rows = int(np.clip(BLOCK_NUMBERS // max(len(names), 1), 256, BLOCK_ROWS))
        empty = True
        for block in self._blocks(list(names), rows):
            for start in range(0, block.batch.num_rows, rows):
                empty = False
                part = block.batch.slice(start, rows)
                yield Block(part, block.place, block.start + start)
        if empty:
            raise ValueError(
                f"There must be at least one row to read, got none in {self.description}: "
                f"{self._without_rows}."
            )

    def check_names(self, names: Iterable[str], what: str) -> None:
        """Raise if a column is missing."""
        missing = [name for name in names if name not in self.types]
        if missing:
            raise ValueError(
                f"{what} must name columns of the dataset, got {missing[:10]}: choose "
                f"among its columns {list(self.types)[:20]}, or pass a dataset that has them."
            )

    @property
    def description(self) -> str:
        """What is read, for errors."""
        raise NotImplementedError

    def identity(self) -> str:
        """Tell these rows from others, as far as that can be seen without reading them."""
        return repr([(name, str(kind)) for name, kind in self.types.items()])

    def _blocks(self, names: list[str], rows: int) -> Iterator[Block]:
        raise NotImplementedError

    def _typed(self, name: str, values: Any) -> Any:
        """Give missing values that have no type where they are the type that others have."""
        import pyarrow as pa

        known = pa.types.is_null(values.type) and not pa.types.is_null(self.types[name])
        return pa.nulls(len(values), _plain(self.types[name])) if known else values


class DatasetSource(BatchSource):
    """A :class:`pyarrow.dataset.Dataset`: one file after the other."""

    def __init__(self, dataset: Any) -> None:
        # pyarrow keeps the filter of Dataset.filter, has no public name for it, and gives the files
        # of no dataset that has one.
        self._filter = (getattr(dataset, "_scan_options", None) or {}).get("filter")
        if self._filter is not None:
            dataset = dataset.replace_schema(dataset.schema)
            dataset._scan_options = {}
        self.dataset = dataset
        self.types = _types(dataset.schema)
        self._merge_types()

    @property
    def description(self) -> str:
        files = getattr(self.dataset, "files", None)
        return "the dataset" if files is None else f"a dataset of {len(files)} files"

    def identity(self) -> str:
        parts = [
            f"{fragment.partition_expression} {sample_of(fragment)}{_row_groups(fragment) or ''}"
            for fragment in self._fragments()
        ]
        # The text of a filter leaves out values of long lists.
        kept = hashlib.blake2b(pickle.dumps(self._filter), digest_size=12).hexdigest()
        return f"{super().identity()} {parts!r} {kept}"

    def _fragments(self) -> Iterator[Any]:
        """The files that may have rows which the filter leaves."""
        found: Iterator[Any] = self.dataset.get_fragments(filter=self._filter)
        return found

    def _merge_types(self) -> None:
        """Check that all files have the columns, each with values of one kind."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        first: dict[str, str] = {}
        for fragment in self._fragments():
            schema = fragment.physical_schema
            keys = ds.get_partition_keys(fragment.partition_expression)
            for name in self.types:
                if name in keys:
                    continue
                if name not in schema.names:
                    raise ValueError(
                        f"Every file must have the same columns, got none named {name!r} in "
                        f"{_place(fragment)}: write the file anew with it, or leave it out by "
                        "pyarrow.dataset.dataset(..., schema=...)."
                    )
                found = schema.field(name).type
                if pa.types.is_null(self.types[name]):
                    self.types[name] = found
                before = first.get(name, "the schema of the dataset")
                check_kind(name, self.types[name], found, _place(fragment), before)
                if not pa.types.is_null(found):
                    first.setdefault(name, _place(fragment))

    def _blocks(self, names: list[str], rows: int) -> Iterator[Block]:
        import pyarrow as pa

        for fragment in self._fragments():
            start, place = 0, _place(fragment)
            if self._filter is not None:
                place = f"{place} (of the rows that the filter leaves)"
            elif _row_groups(fragment) is not None:
                place = f"{place} (of the rows in the chosen row groups)"
            try:
                for batch in self._batches_of(fragment, names, rows):
                    yield Block(batch, place, start)
                    start += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                raise OSError(
                    f"{place} must be readable, got after row {start}: {error}"
                ) from error

    def _batches_of(self, fragment: Any, names: list[str], rows: int) -> Iterator[Any]:
        """Read one file, and add the columns that its folder stands for."""
        import pyarrow as pa
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        keys = ds.get_partition_keys(fragment.partition_expression)
        own = [name for name in names if name not in keys]
        is_parquet = isinstance(fragment, ds.ParquetFileFragment)
        if self._filter is not None:  # which may ask for the columns of folders
            schema = [field for field in fragment.physical_schema if field.name not in keys]
            schema += [
                pa.field(each, _plain(self.types[each])) for each in keys if each in self.types
            ]
            found = fragment.scanner(
                schema=pa.schema(schema),
                columns=own,
                filter=self._filter,
                batch_size=rows,
                batch_readahead=1,
                use_threads=False,
                fragment_scan_options=ds.ParquetFragmentScanOptions(
                    use_buffered_stream=True, buffer_size=BUFFER_BYTES, pre_buffer=False
                )
                if is_parquet
                else None,
            ).to_batches()
        elif is_parquet:
            file = pq.ParquetFile(fragment.open(), pre_buffer=False, buffer_size=BUFFER_BYTES)
            groups = _row_groups(fragment)
            found = file.iter_batches(rows, row_groups=groups, columns=own, use_threads=False)
        else:
            found = fragment.scanner(
                columns=own, batch_size=rows, batch_readahead=1, use_threads=False
            ).to_batches()
        for batch in found:
            columns = [
                pa.repeat(pa.scalar(keys[name], _plain(self.types[name])), batch.num_rows)
                if name in keys
                else self._typed(name, batch.column(name))
                for name in names
            ]
            yield pa.RecordBatch.from_arrays(columns, names=names)


def _row_groups(fragment: Any) -> list[int] | None:
    """Numbers of the row groups, if a fragment is not the whole of its Parquet file."""
    import pyarrow.dataset as ds

    if not isinstance(fragment, ds.ParquetFileFragment):
        return None
    found = [each.id for each in fragment.row_groups]
    return None if len(found) == fragment.metadata.num_row_groups else found


def sample_of(fragment: Any) -> str:
    """Tell a file from others by its name and some of its bytes, which are the same in a copy.

    Files of remote storage are known by size and time, which all machines see alike.
    """
    import pyarrow.fs

    found = hashlib.blake2b(digest_size=12)
    path, storage = getattr(fragment, "path", None), getattr(fragment, "filesystem", None)
    if not path or storage is None:
        for batch in fragment.to_batches():
            found.update(batch.serialize())
        return found.hexdigest()
    info = storage.get_file_info(path)
    if not isinstance(storage, pyarrow.fs.LocalFileSystem):
        return f"{info.base_name} {info.size} {info.mtime_ns}"
    last = max(info.size - SAMPLE_BYTES, 0)
    with open(path, "rb") as file:
        for start in np.linspace(0, last, SAMPLES, dtype=np.int64).tolist():
            file.seek(start)
            found.update(file.read(SAMPLE_BYTES))
    return f"{info.base_name} {info.size} {found.hexdigest()}"


class ReaderSource(BatchSource):
    """A function that returns record batches anew at each call."""

    _without_rows = "let it open its batches anew at each call, as it is called several times"

    def __init__(self, function: Callable[[], Iterable[Any]]) -> None:
        self.function = function
        self._opened: Iterator[Any] | None = None
        self.types = self._find_types()

    def _find_types(self) -> dict[str, Any]:
        """Read until each column has a type; one without any value has none."""
        import pyarrow as pa

        types: dict[str, Any] | None = None
        for batch in self._all_batches():
            found = _types(batch.schema)
            types = found if types is None else types
            for name, kind in types.items():
                types[name] = found.get(name, kind) if pa.types.is_null(kind) else kind
            if not any(map(pa.types.is_null, types.values())):
                break
        if types is None:
            raise ValueError(
                f"There must be at least one row to read, got no batch from {self.description}: "
                "let it return an iterator of pyarrow.RecordBatch, anew at each call."
            )
        return types

    @property
    def description(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"the function {name}"

    def _all_batches(self) -> Iterator[Any]:
        import pyarrow as pa

        opened = self.function()
        if isinstance(opened, pa.RecordBatch | pa.Table):
            opened = [opened]
        try:
            batches = iter(opened)
        except TypeError as error:
            raise TypeError(
                f"{self.description.capitalize()} must return record batches, got "
                f"{type(opened).__name__}: return an iterator of pyarrow.RecordBatch."
            ) from error
        if batches is self._opened:  # of which the first rows are gone
            raise ValueError(
                f"Rows in batches are read several times, but {self.description} returned the same "
                f"{type(batches).__name__} again: let it open its batches anew at each call."
            )
        self._opened = batches
        for batch in self._watched(batches):
            if isinstance(batch, pa.Table):
                yield from batch.to_batches()
            elif isinstance(batch, pa.RecordBatch):
                yield batch
            else:
                raise TypeError(
                    f"{self.description.capitalize()} must return record batches, got one of type "
                    f"{type(batch).__name__}: return an iterator of pyarrow.RecordBatch."
                )

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Note at an error of the user's function after which batch it came."""
        seen = 0
        try:
            for batch in batches:
                yield batch
                seen += 1
        except Exception as error:
            error.add_note(f"It came from {self.description}, after {seen} batches.")
            raise

    def _blocks(self, names: list[str], rows: int) -> Iterator[Block]:
        import pyarrow as pa

        for number, batch in enumerate(self._all_batches()):
            place = f"Batch {number} of {self.description}"
            for name in self.types:
                if name not in batch.schema.names:
                    raise ValueError(
                        f"Every batch must have the same columns, got none named {name!r} in "
                        f"{place.lower()}: return the same columns in all batches."
                    )
                check_kind(name, self.types[name], batch.schema.field(name).type, place, None)
            columns = [self._typed(name, batch.column(name)) for name in names]
            yield Block(pa.RecordBatch.from_arrays(columns, names=names), place, 0)


def read_columns(X: Any, names: Sequence[str], what: str) -> list[NDArray[Any]]:
    """Read some columns of all rows into memory."""
    source = open_batches(X)
    source.check_names(names, what)
    parts = [[to_numpy(each) for each in block.batch.columns] for block in source.blocks(names)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def to_numpy(values: Any) -> NDArray[Any]:
    """Make an array of a column; equal strings are one object."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count or not is_string(values.type):
        array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return array
    encoded = values.dictionary_encode()
    strings: NDArray[Any] = encoded.dictionary.to_numpy(zero_copy_only=False)
    return strings[encoded.indices.to_numpy()]


def is_string(kind: Any) -> bool:
    """Whether a type of Arrow is one of its types of strings."""
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def check_kind(name: str, before: Any, now: Any, place: str, first: str | None) -> None:
    """Raise if a column holds another kind of values than in the files before."""
    kinds = _kind(before), _kind(now)
    if kinds[0] != kinds[1] and None not in kinds:
        raise ValueError(
            f"A column must have one type in all files, got {now} in column {name!r} of {place}, "
            f"and {before} in {first or 'those before'}: write the file anew with the same type."
        )


def _kind(type_: Any) -> str | None:
    """What the values of a type are; None if there are none."""
    import pyarrow as pa

    type_ = _plain(type_)
    if pa.types.is_null(type_):
        return None
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "numbers"
    return "strings" if is_string(type_) else str(type_)


def _types(schema: Any) -> dict[str, Any]:
    """Names and types of the columns, without the index of pandas, which is none."""
    if len(set(schema.names)) < len(schema):
        raise ValueError(f"Column names must be unique, got {schema.names}: rename the columns.")
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    return {field.name: field.type for field in schema if field.name not in index}


def _plain(type_: Any) -> Any:
    """The type of the values of a dictionary; other types are themselves."""
    import pyarrow as pa

    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _place(fragment: Any) -> str:
    path = getattr(fragment, "path", None)
    return f"File {path}" if path else "The table in memory"
