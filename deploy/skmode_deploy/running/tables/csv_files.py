"""Read and write CSV files of any length."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import chain, islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Column, Manifest
from skmode_deploy.running.inputs.columns import (
    TEXTS_OF_BOOLS,
    match_string,
    number_of_text,
    texts_of_values,
)
from skmode_deploy.running.tables.chunks import Chunk, ReadOptions
from skmode_deploy.running.tables.columns import select_columns
from skmode_deploy.running.tables.errors import InputError

# pandas reads these as bools, and most training tables were read with pandas.
BOOLS = {word: float(word.lower() == "true") for word in
         ("True", "TRUE", "true", "False", "FALSE", "false")}  # fmt: skip

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)

# A file without line ends would be one line that fills the memory.
MAX_LINE_CHARACTERS = 2**24


def _lines(stream: IO[str]) -> Iterator[str]:
    """Yield lines with their ends, without the byte order mark."""
    start = "\ufeff"
    for number, line in enumerate(iter(partial(stream.readline, MAX_LINE_CHARACTERS + 1), ""), 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise InputError(
                f"A line must have at most {MAX_LINE_CHARACTERS:,} characters, got more in line "
                f"{number}: look for missing line ends or quotation marks, or use a Parquet file."
            )
        yield line.removeprefix(start)
        start = ""


class CsvReader:
    """Reads a CSV file in chunks."""

    def __init__(self, stream: IO[str], manifest: Manifest, options: ReadOptions) -> None:
        self._stream = _lines(stream)
        self._manifest = manifest
        self._options = options
        self._line = 0  # lines read so far
        self._names = self._read_names()
        self._selection = select_columns(self._names, manifest, options)
        self._missing = dict.fromkeys({"", *options.missing}, np.nan)
        self._only_numbers = (
            not options.missing
            and sorted(self._selection.model) == list(range(len(self._names)))
            and all(
                column.kind != "image" and column.dtype in ("float32", "float64")
                for column in manifest.columns
            )
        )

    def __iter__(self) -> Iterator[Chunk]:
        empty = True
        while lines := list(islice(self._stream, self._options.chunk_rows)):
            first = self._line + 1
            matrix = self._read_matrix(lines)
            if matrix is not None:
                yield Chunk(self._to_rows(list(matrix.T)), [], len(matrix), first)
                empty = False
            elif rows := self._read_rows(lines):
                yield self._to_chunk(rows, first)
                empty = False
        if empty:
            yield self._to_chunk([], self._line + 1)

    def _read_names(self) -> list[str]:
        if not self._options.header:
            return [column.name for column in self._manifest.columns]
        reader = self._parse(self._stream)
        try:
            names = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"The header must be CSV, but reading it failed: {error}. Look for a missing "
                "quotation mark."
            ) from None
        if not names:
            raise InputError(
                "A CSV file must start with the names of its columns, got none: add a header, or "
                "pass --no-header."
            )
        self._line = reader.line_num
        return list(names)

    def _parse(self, lines: Iterable[str]) -> Any:
        return csv.reader(lines, delimiter=self._options.delimiter, strict=True)

    def _read_matrix(self, lines: list[str]) -> NDArray[np.float64] | None:
        """Read plain finite numbers, at twice the speed. None if there is anything else."""
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
        if matrix.shape != (len(lines), len(self._names)):  # loadtxt skips blank lines
            return None
        self._line += len(lines)
        return matrix[:, self._selection.model]

    def _read_rows(self, lines: list[str]) -> list[list[str]]:
        """Parse these lines, and further lines if a quoted field continues in them."""
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
                f"Line {self._line + max(reader.line_num, 1)} must be CSV, but reading it failed: "
                f"{error}. Look for a missing quotation mark."
            ) from None
        return rows, reader.line_num

    def _check_widths(self, rows: list[list[str]]) -> None:
        """Check that all rows are as wide as the header; drop blank lines at the very end."""
        width = len(self._names)
        if set(map(len, rows)) == {width}:
            return
        blank = 0
        while blank < len(rows) and not rows[-1 - blank]:
            blank += 1
        # Blank lines are the end only if nothing but blank lines follows.
        if blank and not any(line.strip("\r\n") for line in self._stream):
            del rows[-blank:]
        for i, row in enumerate(rows):
            if len(row) != width:
                raise InputError(
                    f"Each row must have {width} fields, one per column, got {len(row)} in line "
                    f"{_line_of(rows, i, self._line + 1)}: correct the row, quote fields that hold "
                    f"{self._options.delimiter!r}, or pass another --delimiter."
                )

    def _to_chunk(self, rows: list[list[str]], first: int) -> Chunk:
        fields = list(zip(*rows, strict=True)) if rows else [()] * len(self._names)
        values = []
        for column, position in zip(self._manifest.columns, self._selection.model, strict=True):
            try:
                values.append(self._convert(column, fields[position]))
            except _FieldError as error:
                line = _line_of(rows, error.row, first)
                raise InputError(f"{error.rule} in line {line}: {error.fix}.") from None
        kept = [list(fields[position]) for position in self._selection.kept]
        return Chunk(self._to_rows(values), kept, len(rows), first)

    def _to_rows(self, values: list[Any]) -> Any:
        if self._manifest.input == "array":
            return np.column_stack(values)
        names = [column.name for column in self._manifest.columns]
        return dict(zip(names, values, strict=True))

    def _convert(self, column: Column, fields: Sequence[str]) -> Any:
        if column.dtype == "string" or column.kind == "image":  # images are paths
            if self._options.missing:
                fields = ["" if field in self._missing else field for field in fields]
            return _to_strings(column, fields)
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
            "correct it, compute the number that training had there, or pass "
            f"--missing {fields[row]!r} if it stands for a missing value",
        )


class _FieldError(Exception):
    """A field cannot be read: its row in the chunk, the rule with the value, and the fix."""

    def __init__(self, row: int, rule: str, fix: str) -> None:
        super().__init__(row, rule, fix)
        self.row, self.rule, self.fix = row, rule, fix


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _to_strings(column: Column, fields: Sequence[str]) -> list[str]:
    """Read fields that are no category as the numbers or bools that they may stand for."""
    categories = column.categories or ()
    known = set(categories)
    others = dict.fromkeys(field for field in fields if field and field not in known)
    if not known or not others:
        return list(fields)
    match = _matcher(column)
    read: dict[str, str] = {}
    for field in others:
        try:
            read[field] = match(field)
        except ValueError:
            raise _FieldError(
                fields.index(field),
                f"Column {column.name!r} must hold strings as training saw them, such as "
                f"{categories[0]!r}, got {field!r}",
                "write the numbers or bools in the same way (a spreadsheet may have removed zeros)",
            ) from None
    return [read.get(field, field) for field in fields]


def _matcher(column: Column) -> Callable[[str], str]:
    """Make a function that finds the category of a field, and raises where it may be several."""
    known = column.categories or ()
    texts = texts_of_values(column)
    if all(text in BOOLS for text in known):
        return partial(_match_bool, texts is not None)
    if all(map(_NUMBER.fullmatch, known)):
        return partial(_match_number, column, texts, set(map(Decimal, known)))
    return str


def _match_bool(one_to_one: bool, field: str) -> str:
    if field in BOOLS and one_to_one:
        return TEXTS_OF_BOOLS[bool(BOOLS[field])]
    if field in BOOLS or _NUMBER.fullmatch(field):
        raise ValueError
    return field


def _match_number(
    column: Column, texts: dict[Any, str] | None, numbers: set[Decimal], field: str
) -> str:
    value = number_of_text(field)
    if value is not None and texts is not None:
        return match_string(column, texts, value)
    if field in BOOLS or (_NUMBER.fullmatch(field) and Decimal(field) in numbers):
        raise ValueError
    return field


def _to_integers(column: Column, fields: Sequence[str]) -> NDArray[np.int64]:
    integers = np.empty(len(fields), dtype=np.int64)
    for i, field in enumerate(fields):
        try:
            integers[i] = BOOLS[field] if field in BOOLS else _to_integer(field)
        except (ValueError, ArithmeticError):
            raise _FieldError(
                i,
                f"Column {column.name!r} must hold 64-bit integers, none missing, got {field!r}",
                "correct it",
            ) from None
    return integers


def _to_integer(field: str) -> int:
    try:
        return int(field)
    except ValueError:
        # 3.0 is allowed. Not with float, which cannot hold all 64-bit integers.
        number = Decimal(field)
        if not -(2**63) <= number < 2**63 or number != number.to_integral_value():
            raise
        return int(number)


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
    """Return the line of row i: quoted fields may contain line ends."""
    breaks = (len(re.findall(r"\r\n|\r|\n", field)) for row in rows[:i] for field in row)
    return first + i + sum(breaks)


class CsvWriter:
    """Writes predictions as CSV: a header, then one line for each row."""

    def __init__(self, stream: IO[str], names: Sequence[str], delimiter: str) -> None:
        self._writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow(names)

    def write(self, kept: list[Any], predictions: list[NDArray[Any]]) -> None:
        """Write the rows of a chunk."""
        copies = [c.to_pylist() if hasattr(c, "to_pylist") else c for c in kept]
        columns = [*copies, *map(_to_texts, predictions)]
        self._writer.writerows(zip(*columns, strict=True))

    def close(self) -> None:
        """Do nothing: each line is complete."""


def _to_texts(column: NDArray[Any]) -> list[Any]:
    """Write float32 numbers with nine digits, which identify each of them."""
    if column.dtype != np.float32:
        return list(column.tolist())
    return ("%.9g\n" * len(column) % tuple(column.tolist())).split("\n")[:-1]
