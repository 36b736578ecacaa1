"""Rows in and answers out, block by block: CSV and Parquet files of any length."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Column, Manifest
from skmode_deploy.predictor import Prediction

# pandas, with which a table of training was most likely read, takes these for bools.
BOOLS = {word: float(word.lower() == "true") for word in
         ("True", "TRUE", "true", "False", "FALSE", "false")}  # fmt: skip

ROW_GROUP = 2**17  # rows of a Parquet file that are stored together


class InputError(ValueError):
    """What a file holds is not what the model needs."""


@dataclass(frozen=True)
class Options:
    """How to read a file.

    Attributes
    ----------
    chunk_rows : int
        Number of rows of a block.
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

    chunk_rows: int = 8192
    keep: tuple[str, ...] = ()
    ignore_extra: bool = False
    by_position: bool = False
    header: bool = True
    delimiter: str = ","
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Block:
    """Some rows of a file.

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
    """A file as an iterator over its blocks: at least one, which is empty if there are no rows."""

    def __iter__(self) -> Iterator[Block]: ...


@dataclass(frozen=True)
class Selection:
    """Positions in the file of the model's columns, in its order, and of the columns to keep."""

    model: tuple[int, ...]
    kept: tuple[int, ...]


def select(names: Sequence[str], manifest: Manifest, options: Options) -> Selection:
    """Find the columns of the model and those to keep.

    Parameters
    ----------
    names : sequence of str
        Names in the file.
    manifest : Manifest
        What the model needs.
    options : Options
        How to find it.

    Returns
    -------
    Selection
        Where the columns are.

    Raises
    ------
    InputError
        If a column is missing, there twice, or unknown to the model.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"The columns of a file must have different names, got {_some(twice)} more than once: "
            "rename them."
        )
    positions = {name: i for i, name in enumerate(names)}
    lost = [name for name in options.keep if name not in positions]
    if lost:
        raise InputError(
            f"A column to keep must be one of the file's, got {_some(lost)}: the file has "
            f"{_some(names)}."
        )
    kept = tuple(positions[name] for name in options.keep)
    model = _model_positions(names, positions, manifest, options)
    extra = [name for i, name in enumerate(names) if i not in {*model, *kept}]
    if extra and not options.ignore_extra:
        raise InputError(
            f"The columns of a file must be the model's, got {_some(extra)} as well: pass "
            "--ignore-extra to leave them out, or --keep NAME to copy one to the output."
        )
    return Selection(model, kept)


def _model_positions(
    names: Sequence[str], positions: dict[str, int], manifest: Manifest, options: Options
) -> tuple[int, ...]:
    expected = [column.name for column in manifest.columns]
    if options.by_position:
        # A kept column is not the model's, so that an id may stand before the features.
        free = [i for i, name in enumerate(names) if name not in options.keep]
        if len(free) < len(expected):
            raise InputError(
                f"The file must have the {len(expected)} columns of the model in their order, got "
                f"{len(free)} that are not kept: pass the columns of training."
            )
        return tuple(free[: len(expected)])
    missing = [name for name in expected if name not in positions]
    if missing:
        fix = (
            "add them, with empty fields where nothing is known."
            if manifest.from_table
            else "pass --by-position to take the columns in the order of the file."
        )
        raise InputError(
            f"The file must have the columns of the model, got none called {_some(missing)}: {fix}"
        )
    return tuple(positions[name] for name in expected)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


class CsvReader:
    """Read a CSV file.

    Parameters
    ----------
    stream : text file
        The file, opened with ``newline=""``.
    manifest : Manifest
        What the model needs.
    options : Options
        How to read it.

    Raises
    ------
    InputError
        If the header is not as the model needs it; in the iteration, if a row is not.
    """

    def __init__(self, stream: IO[str], manifest: Manifest, options: Options) -> None:
        self._stream = stream
        self._manifest = manifest
        self._options = options
        self._line = 0  # lines read so far
        self._names = self._read_names()
        self._selection = select(self._names, manifest, options)
        self._missing = dict.fromkeys({"", *options.missing}, np.nan)
        self._only_numbers = (
            not options.missing
            and sorted(self._selection.model) == list(range(len(self._names)))
            and all(column.dtype in ("float32", "float64") for column in manifest.columns)
        )

    def __iter__(self) -> Iterator[Block]:
        empty = True
        while lines := list(islice(self._stream, self._options.chunk_rows)):
            first = self._line + 1
            matrix = self._read_matrix(lines)
            if matrix is not None:
                yield Block(self._to_rows(list(matrix.T)), [], len(matrix), first)
                empty = False
            elif rows := self._read_rows(lines):
                yield self._to_block(rows, first)
                empty = False
        if empty:
            yield self._to_block([], self._line + 1)

    def _read_names(self) -> list[str]:
        if not self._options.header:
            return [column.name for column in self._manifest.columns]
        reader = self._parse(self._stream)
        try:
            names = next(reader, None)
        except csv.Error as error:
            raise InputError(f"The header must be CSV, and reading it gave: {error}.") from None
        if not names:
            raise InputError(
                "A CSV file must start with the names of its columns, got none: add a header, or "
                "pass --no-header."
            )
        self._line = reader.line_num
        return [names[0].removeprefix("\ufeff"), *names[1:]]

    def _parse(self, lines: Iterable[str]) -> Any:
        return csv.reader(lines, delimiter=self._options.delimiter, strict=True)

    def _read_matrix(self, lines: list[str]) -> NDArray[np.float64] | None:
        """Read plain finite numbers at twice the speed; None for all else, to be read closely."""
        if not self._only_numbers:
            return None
        try:
            matrix: NDArray[np.float64] = np.loadtxt(
                lines, delimiter=self._options.delimiter, comments=None, ndmin=2
            )
        except (ValueError, TypeError):
            return None
        with np.errstate(over="ignore"):
            if np.isinf(matrix.astype(np.float32)).any():
                return None
        if matrix.shape != (len(lines), len(self._names)):  # blank lines are passed over
            return None
        self._line += len(lines)
        return matrix[:, self._selection.model]

    def _read_rows(self, lines: list[str]) -> list[list[str]]:
        """Parse at least these lines; a quoted field may go on beyond them."""
        try:
            rows, n_lines = list(self._parse(lines)), len(lines)
        except csv.Error:
            rows, n_lines = self._read_rows_beyond(lines)
        self._check_widths(rows)
        self._line += n_lines
        return rows

    def _read_rows_beyond(self, lines: list[str]) -> tuple[list[list[str]], int]:
        reader = self._parse(chain(lines, self._stream))
        rows = []
        try:
            while reader.line_num < len(lines):
                rows.append(next(reader))
        except csv.Error as error:
            raise InputError(
                f"Line {self._line + max(reader.line_num, 1)} must be CSV, and reading it gave: "
                f"{error}. Look for a quotation mark without its partner."
            ) from None
        return rows, reader.line_num

    def _check_widths(self, rows: list[list[str]]) -> None:
        """All rows as wide as the header; blank lines at the very end are dropped."""
        width = len(self._names)
        if set(map(len, rows)) == {width}:
            return
        blank = 0
        while blank < len(rows) and not rows[-1 - blank]:
            blank += 1
        # What follows blank lines decides whether they are the end.
        if blank and not any(line.strip("\r\n") for line in self._stream):
            del rows[-blank:]
        for i, row in enumerate(rows):
            if len(row) != width:
                raise InputError(
                    f"Each row must have {width} fields, as the columns, got {len(row)} in line "
                    f"{_line_of(rows, i, self._line + 1)}: correct the row, quote fields that hold "
                    f"{self._options.delimiter!r}, or pass another --delimiter."
                )

    def _to_block(self, rows: list[list[str]], first: int) -> Block:
        fields = list(zip(*rows, strict=True)) if rows else [()] * len(self._names)
        values = []
        for column, position in zip(self._manifest.columns, self._selection.model, strict=True):
            try:
                values.append(self._convert(column, fields[position]))
            except _FieldError as error:
                line = _line_of(rows, error.row, first)
                raise InputError(f"{error.rule} in line {line}: {error.fix}.") from None
        kept = [list(fields[position]) for position in self._selection.kept]
        return Block(self._to_rows(values), kept, len(rows), first)

    def _to_rows(self, values: list[Any]) -> Any:
        if self._manifest.input == "array":
            return np.column_stack(values)
        names = [column.name for column in self._manifest.columns]
        return dict(zip(names, values, strict=True))

    def _convert(self, column: Column, fields: Sequence[str]) -> Any:
        if column.dtype == "string":
            if not self._options.missing:
                return list(fields)
            return ["" if field in self._missing else field for field in fields]
        if column.dtype == "int64":
            return _to_integers(column, fields)
        try:
            if self._options.missing:
                raise ValueError
            numbers = np.array(list(map(float, fields)), dtype=np.float64)
        except ValueError:
            numbers = self._to_numbers(column, fields)
        _check_finite(column, numbers, fields)
        return numbers

    def _to_numbers(self, column: Column, fields: Sequence[str]) -> NDArray[np.float64]:
        special = BOOLS | self._missing
        try:
            return np.array([special[x] if x in special else float(x) for x in fields])
        except ValueError:
            pass
        row = next(i for i, x in enumerate(fields) if x not in special and not _is_number(x))
        raise _FieldError(
            row,
            f"Column {column.name!r} must hold numbers, got {fields[row]!r}",
            f"correct it, or pass --missing {fields[row]!r} if it stands for a missing value",
        )


class _FieldError(Exception):
    """A field that cannot be read: its row in the block, the rule with the value, and the fix."""

    def __init__(self, row: int, rule: str, fix: str) -> None:
        super().__init__(row, rule, fix)
        self.row, self.rule, self.fix = row, rule, fix


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _to_integers(column: Column, fields: Sequence[str]) -> NDArray[np.int64]:
    integers = np.empty(len(fields), dtype=np.int64)
    for i, field in enumerate(fields):
        try:
            integers[i] = BOOLS[field] if field in BOOLS else int(field)
        except (ValueError, OverflowError):
            raise _FieldError(
                i,
                f"Column {column.name!r} must hold 64-bit integers, none missing, got {field!r}",
                "correct it",
            ) from None
    return integers


def _check_finite(column: Column, numbers: NDArray[np.float64], fields: Sequence[str]) -> None:
    if column.dtype != "float32":
        return
    with np.errstate(over="ignore"):
        infinite = np.isinf(numbers.astype(np.float32))
    if infinite.any():
        i = int(np.argmax(infinite))
        raise _FieldError(
            i,
            f"Column {column.name!r} must hold numbers that are finite as float32, got "
            f"{fields[i]!r}",
            "leave the field empty, or write a smaller number",
        )


def _line_of(rows: list[list[str]], i: int, first: int) -> int:
    """Line where row i starts: a quoted field may have lines of its own."""
    breaks = (len(re.findall(r"\r\n|\r|\n", field)) for row in rows[:i] for field in row)
    return first + i + sum(breaks)


class ParquetReader:
    """Read a Parquet file.

    Parameters
    ----------
    path : path
        The file.
    manifest : Manifest
        What the model needs.
    options : Options
        How to read it.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    InputError
        If the file is no Parquet file, or its columns are not those that the model needs.
    """

    def __init__(self, path: Any, manifest: Manifest, options: Options) -> None:
        parquet = import_parquet()
        import pyarrow

        self._pyarrow = pyarrow
        self._manifest = manifest
        self._options = options
        try:
            # Without pre_buffer, which holds a whole row group at once.
            self._file = parquet.ParquetFile(path, pre_buffer=False)
        except pyarrow.ArrowInvalid as error:
            raise InputError(
                f"{str(path)!r} must be a Parquet file, and reading it gave: {error}."
            ) from None
        self._names = list(self._file.schema_arrow.names)
        self._selection = select(self._names, manifest, options)

    def __iter__(self) -> Iterator[Block]:
        wanted = [self._names[i] for i in (*self._selection.model, *self._selection.kept)]
        row = 1
        try:
            for batch in self._file.iter_batches(self._options.chunk_rows, columns=wanted):
                yield self._to_block(self._pyarrow.Table.from_batches([batch]), row)
                row += batch.num_rows
        except self._pyarrow.ArrowException as error:
            raise InputError(f"Row {row} cannot be read: {error}.") from None
        if row == 1:
            yield self._to_block(self._file.schema_arrow.empty_table(), row)

    def _to_block(self, table: Any, row: int) -> Block:
        columns = [table.column(self._names[i]) for i in self._selection.model]
        names = [column.name for column in self._manifest.columns]
        rows = self._pyarrow.Table.from_arrays(columns, names=names)
        kept = [table.column(self._names[i]) for i in self._selection.kept]
        return Block(rows, kept, table.num_rows, row)


def import_parquet() -> Any:
    """Import pyarrow.parquet, or say how to install it.

    Returns
    -------
    module
        pyarrow.parquet.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError(
            "Parquet files need pyarrow, which is not installed: "
            "pip install 'skmode-deploy[parquet]', or use CSV files."
        ) from None
    return parquet


def output_names(manifest: Manifest) -> list[str]:
    """Name the columns of the answers.

    Parameters
    ----------
    manifest : Manifest
        What the bundle says about its model.

    Returns
    -------
    list of str
        ``prediction`` (``prediction_0`` and so on where a row has several values),
        ``probability_<class>`` of a classifier, ``expert`` and ``gate_probability``.
    """
    names = ["prediction"]
    if manifest.classes is not None:
        names += [f"probability_{label}" for label in manifest.classes.values]
    elif manifest.n_outputs > 1:
        names = [f"prediction_{i}" for i in range(manifest.n_outputs)]
    return [*names, "expert", "gate_probability"]


def output_columns(answer: Prediction) -> list[NDArray[Any]]:
    """Split answers into the columns that :func:`output_names` names.

    Parameters
    ----------
    answer : Prediction
        What `predict_full` gave.

    Returns
    -------
    list of ndarray of shape (n_samples,)
        The columns.
    """
    columns = [answer.value] if answer.value.ndim == 1 else list(answer.value.T)
    if answer.probabilities is not None:
        columns += list(answer.probabilities.T)
    return [*columns, answer.expert, answer.gate_probability]


class Writer(Protocol):
    """Writes blocks of answers."""

    def write(self, kept: list[Any], answers: list[NDArray[Any]]) -> None: ...

    def close(self) -> None: ...


class CsvWriter:
    """Write answers as CSV: a header, then a line per row.

    Parameters
    ----------
    stream : text file
        Where to write.
    names : sequence of str
        Names of the columns.
    delimiter : str
        Character between the fields.
    """

    def __init__(self, stream: IO[str], names: Sequence[str], delimiter: str) -> None:
        self._writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow(names)

    def write(self, kept: list[Any], answers: list[NDArray[Any]]) -> None:
        """Write some rows.

        Parameters
        ----------
        kept : list
            Columns copied from the input.
        answers : list of ndarray
            Columns of the answers.
        """
        copies = [c.to_pylist() if hasattr(c, "to_pylist") else c for c in kept]
        columns = [*copies, *map(_to_texts, answers)]
        self._writer.writerows(zip(*columns, strict=True))

    def close(self) -> None:
        """Do nothing: a line is complete once written."""


def _to_texts(column: NDArray[Any]) -> list[Any]:
    """Nine digits tell any two float32 numbers apart."""
    if column.dtype != np.float32:
        return list(column.tolist())
    return ("%.9g\n" * len(column) % tuple(column.tolist())).split("\n")[:-1]


class ParquetWriter:
    """Write answers as Parquet, in row groups of many blocks.

    Parameters
    ----------
    path : path
        File to write.
    names : sequence of str
        Names of the columns.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """

    def __init__(self, path: Any, names: Sequence[str]) -> None:
        self._parquet = import_parquet()
        self._path = path
        self._names = list(names)
        self._writer: Any = None
        self._pending: list[Any] = []

    def write(self, kept: list[Any], answers: list[NDArray[Any]]) -> None:
        """Write some rows.

        Parameters
        ----------
        kept : list
            Columns copied from the input.
        answers : list of ndarray
            Columns of the answers.
        """
        import pyarrow

        # As lists, numpy's strings: Arrow takes no fixed width. Fields of a CSV file are text.
        columns = [pyarrow.array(c, pyarrow.string()) if isinstance(c, list) else c for c in kept]
        columns += [
            pyarrow.array(c.tolist(), pyarrow.string()) if c.dtype.kind == "U" else pyarrow.array(c)
            for c in answers
        ]
        self._pending.append(pyarrow.Table.from_arrays(columns, names=self._names))
        if sum(table.num_rows for table in self._pending) >= ROW_GROUP:
            self._write_pending()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
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
