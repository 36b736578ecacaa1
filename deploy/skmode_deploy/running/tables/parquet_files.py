"""Read and write Parquet files of any length, with pyarrow."""

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from skmode_deploy.bundle import Manifest
from skmode_deploy.bundle.messages import as_sentence
from skmode_deploy.running.tables.chunks import Chunk, ReadOptions
from skmode_deploy.running.tables.columns import select_columns
from skmode_deploy.running.tables.errors import InputError

ROW_GROUP = 2**17  # rows of a Parquet file that are stored together


class ParquetReader:
    """Reads a Parquet file in chunks."""

    def __init__(self, path: Any, manifest: Manifest, options: ReadOptions, name: str) -> None:
        parquet = import_parquet()
        import pyarrow

        self._pyarrow = pyarrow
        self._manifest = manifest
        self._options = options
        try:
            # Without pre_buffer, which holds a whole row group at once.
            self._file = parquet.ParquetFile(path, pre_buffer=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(
                f"{name!r} must be a Parquet file, but reading it failed: {as_sentence(error)} "
                "Write the file again."
            ) from None
        self._names = list(self._file.schema_arrow.names)
        self._selection = select_columns(self._names, manifest, options)

    def __iter__(self) -> Iterator[Chunk]:
        wanted = [self._names[i] for i in (*self._selection.model, *self._selection.kept)]
        row = 1
        try:
            for batch in self._file.iter_batches(self._options.chunk_rows, columns=wanted):
                yield self._to_chunk(self._pyarrow.Table.from_batches([batch]), row)
                row += batch.num_rows
        except (self._pyarrow.ArrowException, OSError) as error:
            raise InputError(
                f"Row {row} must be readable, but reading it failed: {as_sentence(error)} "
                "Write the file again."
            ) from None
        if row == 1:
            yield self._to_chunk(self._file.schema_arrow.empty_table(), row)

    def _to_chunk(self, table: Any, row: int) -> Chunk:
        columns = [table.column(self._names[i]) for i in self._selection.model]
        names = [column.name for column in self._manifest.columns]
        rows = self._pyarrow.Table.from_arrays(columns, names=names)
        kept = [table.column(self._names[i]) for i in self._selection.kept]
        return Chunk(rows, kept, table.num_rows, row)


def import_parquet() -> Any:
    """Import pyarrow.parquet; the error says how to install it."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError(
            "Parquet files need pyarrow, which is not installed: install the extra 'parquet' of "
            "skmode-deploy (in a checkout: pip install './deploy[parquet]'), or use CSV files."
        ) from None
    return parquet


class ParquetWriter:
    """Writes predictions as Parquet, in row groups of many chunks."""

    def __init__(self, path: Any, names: Sequence[str]) -> None:
        self._parquet = import_parquet()
        self._path = path
        self._names = list(names)
        self._writer: Any = None
        self._pending: list[Any] = []

    def write(self, kept: list[Any], predictions: list[NDArray[Any]]) -> None:
        """Write the rows of a chunk."""
        import pyarrow

        # Arrow cannot convert numpy's fixed-width strings, but lists. CSV fields are text.
        columns = [pyarrow.array(c, pyarrow.string()) if isinstance(c, list) else c for c in kept]
        columns += [
            pyarrow.array(c.tolist(), pyarrow.string()) if c.dtype.kind == "U" else pyarrow.array(c)
            for c in predictions
        ]
        self._pending.append(pyarrow.Table.from_arrays(columns, names=self._names))
        if sum(table.num_rows for table in self._pending) >= ROW_GROUP:
            self._write_pending()

    def close(self) -> None:
        """Write the rows that are left, and the end of the file."""
        if self._pending:
            self._write_pending()
        if self._writer is not None:
            self._writer.close()

    def _write_pending(self) -> None:
        import pyarrow

        table = pyarrow.concat_tables(self._pending)
        self._pending = []
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
