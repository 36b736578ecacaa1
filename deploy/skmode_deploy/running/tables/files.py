"""Open the files that the command line reads and writes, by their format."""

import contextlib
import errno
import gzip
import io
import os
import secrets
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from skmode_deploy.bundle import Manifest
from skmode_deploy.running.tables.chunks import Reader, ReadOptions, Writer
from skmode_deploy.running.tables.csv_files import CsvReader, CsvWriter
from skmode_deploy.running.tables.errors import InputError, UsageError
from skmode_deploy.running.tables.parquet_files import ParquetReader, ParquetWriter

# No file that is read gives these.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_names(source: str, target: str, options: ReadOptions) -> None:
    """Check the names of the files before anything else is done."""
    for name in (source, target):
        if name != "-" and not name.endswith((".csv", ".csv.gz", ".parquet")):
            raise UsageError(
                f"A file must be called .csv, .csv.gz or .parquet, got {name!r}: rename it, or "
                "pass - and redirect."
            )
    if source.endswith(".parquet") and (options.missing or not options.header):
        raise UsageError(
            "--no-header and --missing are for CSV files, got a Parquet file: leave them out."
        )
    if "-" not in (source, target) and _same(source, target):
        raise UsageError(
            f"OUTPUT must be another file than INPUT, got {target!r} for both, which would lose "
            "the rows: name another file."
        )


def _same(source: str, target: str) -> bool:
    return all(map(os.path.exists, (source, target))) and os.path.samefile(source, target)


@contextlib.contextmanager
def open_reader(
    source: str, manifest: Manifest, options: ReadOptions, encoding: str
) -> Iterator[Reader]:
    """Open a file, or stdin, for reading."""
    if source.endswith(".parquet"):
        with open(source, "rb") as file:
            yield ParquetReader(file, manifest, options, name=source)
        return
    with contextlib.ExitStack() as stack:
        if source == "-":
            raw = _binary(sys.stdin, "Standard input")
        else:
            opener: Any = gzip.open if source.endswith(".gz") else open
            raw = stack.enter_context(opener(source, "rb"))
        stream = _decoded(raw, encoding)
        try:
            yield CsvReader(stream, manifest, options)
        except UnicodeError as error:
            raise InputError(
                f"The input must be {encoding} text, but reading it failed: {error}. Pass its "
                "--encoding."
            ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                f"The input must be a gzip file, but reading it failed: {error}."
            ) from None
        finally:
            if source == "-":
                stream.detach()  # or stdin would be closed


def _binary(stream: Any, what: str) -> Any:
    if stream is None:
        raise UsageError(f"{what} must be open for -, but it is closed: name a file, or redirect.")
    return stream.buffer


def _decoded(raw: Any, encoding: str) -> io.TextIOWrapper:
    try:
        return io.TextIOWrapper(raw, encoding=encoding, newline="")
    except LookupError as error:
        raise UsageError(
            f"--encoding must be one that Python knows, got {error}: pass for example utf-8."
        ) from None


@contextlib.contextmanager
def open_writer(target: str, names: Sequence[str], delimiter: str) -> Iterator[Writer]:
    """Open a file, or stdout, for writing; a file gets its name if all goes well."""
    if target == "-":
        raw = _binary(sys.stdout, "Standard output")
        stream = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        try:
            yield CsvWriter(stream, names, delimiter)
            stream.flush()
        finally:
            with contextlib.suppress(OSError):  # it is raised already
                stream.detach()
        return
    with _naming_output(target), replacing(Path(target)) as path:
        if target.endswith(".parquet"):
            with contextlib.closing(ParquetWriter(path, names)) as writer:
                yield writer
            return
        opener: Any = gzip.open if target.endswith(".gz") else open
        with opener(path, "wt", encoding="utf-8", newline="") as stream:
            yield CsvWriter(stream, names, delimiter)


@contextlib.contextmanager
def _naming_output(target: str) -> Iterator[None]:
    """Say which file cannot be written: the system names the hidden one, or none."""
    path = Path(target).resolve()
    hidden = str(path.parent / f".{path.name}-")
    try:
        yield
    except OSError as error:  # those of the input pass: they name their file
        if error.errno not in _NO_ROOM and not str(error.filename).startswith(hidden):
            raise
        reason = os.strerror(error.errno or 0)
        raise UsageError(
            f"OUTPUT must be in a folder that can be written and has room, got {target!r}, and "
            f"writing it gave: {reason}. Mend that, or name another file."
        ) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write to, which takes the place of `path` if all goes well."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise UsageError(f"OUTPUT must be a file, got {str(path)!r}: pass - and redirect.")
    fresh = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    try:
        if target.exists():
            # Same permissions as the old file, and never wider ones in between.
            fresh.touch(mode=0o600, exist_ok=False)
            fresh.chmod(stat.S_IMODE(target.stat().st_mode))
        else:
            fresh.touch(exist_ok=False)
        yield fresh
        with fresh.open("r+b") as stream:
            os.fsync(stream.fileno())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
