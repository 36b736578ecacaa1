"""The command line: look into bundles, check them, and predict files of any length."""

import argparse
import contextlib
import dataclasses
import gzip
import io
import json
import os
import secrets
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import skmode_deploy
from skmode_deploy import _tables, bundle, signing
from skmode_deploy._benchmark import measure
from skmode_deploy._tables import Block, InputError
from skmode_deploy.bundle import BundleError, Column, Manifest
from skmode_deploy.predictor import Prediction, Predictor

PROGRAM = "skmode-deploy"
PROGRESS_SECONDS = 2.0

EXIT_CODES = """\
exit codes:
  0    done
  1    the bundle is refused
  2    wrong usage, or a file that cannot be opened or written
  3    the input data are refused
  130  interrupted
  141  the reader of the output went away
  143  terminated
"""

CSV_RULES = (
    """\
CSV files:
  The first line holds the names of the columns. Every row has as many fields as it. Fields with
  the delimiter, quotation marks or line ends stand in double quotes. Files are UTF-8, with or
  without byte order mark. Answers are written as UTF-8, with the same delimiter.

  An empty field is a missing value, and so is what --missing names. A number is what Python's
  float() reads, "nan" being missing; True and False are 1 and 0. Infinite numbers are refused.
  A string is taken as it stands; one that training did not see is allowed.

"""
    + EXIT_CODES
)


class UsageError(ValueError):
    """What was asked for makes no sense."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments. By default those that the program was started with.

    Returns
    -------
    int
        The exit code; ``skmode-deploy --help`` lists them.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, and where the arguments cannot be parsed.

    Examples
    --------
    >>> from skmode_deploy.cli import main
    >>> main(["verify", "no-such-folder"])
    1
    """
    args = _parser().parse_args(argv)
    try:
        with _terminable():
            args.run(args)
            sys.stdout.flush()
    except BundleError as error:
        return _fail(1, error)
    except InputError as error:
        return _fail(3, error)
    except BrokenPipeError:
        # Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, ImportError, OSError) as error:
        return _fail(2, error)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    return 0


def _fail(code: int, message: object) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the program by an exception, so that nothing half-written is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# Arguments.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Look into, check and run models that skmode.onnx.export wrote.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROGRAM} {skmode_deploy.__version__}"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_inspect, _add_verify, _add_predict, _add_benchmark):
        add(commands)
    return parser


def _add_command(commands: Any, name: str, run: Any, text: str, epilog: str = EXIT_CODES) -> Any:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle")
    command.set_defaults(run=run)
    return command


def _add_inspect(commands: Any) -> None:
    command = _add_command(commands, "inspect", _inspect, "say what a bundle holds")
    command.add_argument("--json", action="store_true", help="print the manifest as JSON")


def _add_verify(commands: Any) -> None:
    command = _add_command(
        commands, "verify", _verify, "check every file of a bundle, and its signature"
    )
    _add_key(command)


def _add_predict(commands: Any) -> None:
    command = _add_command(
        commands, "predict", _predict, "answer for each row of a file", epilog=CSV_RULES
    )
    add = command.add_argument
    add("input", metavar="INPUT", help=".csv, .csv.gz or .parquet file, or - for CSV from stdin")
    add("output", metavar="OUTPUT", help=".csv, .csv.gz or .parquet file, or - for CSV to stdout")
    add("--keep", metavar="COLUMN", action="append", default=[],
        help="copy this column of the input to the output, such as an id; repeatable")  # fmt: skip
    add("--ignore-extra", action="store_true", help="leave out columns that the model lacks")
    add("--by-position", action="store_true",
        help="take the columns in the order of training, whatever their names")  # fmt: skip
    add("--no-header", action="store_true",
        help="the CSV file has no names: all columns, in the order of training")  # fmt: skip
    add("--missing", metavar="TEXT", action="append", default=[],
        help="CSV fields that are missing values, such as NA; repeatable")  # fmt: skip
    add("--delimiter", default=",", metavar="CHAR", help='default ","; "tab" for a tab')
    add("--encoding", default="utf-8", help="encoding of a CSV input, default utf-8")
    add("--chunk-rows", type=_positive_int, default=8192, metavar="N",
        help="rows in memory at a time, default 8192")  # fmt: skip
    add("--progress", action="store_true", help="show rows done even if stderr is no terminal")
    _add_serving(command)


def _add_benchmark(commands: Any) -> None:
    command = _add_command(
        commands, "benchmark", _benchmark, "measure how fast a bundle answers random rows"
    )
    add = command.add_argument
    add("--rows", type=_positive_int, nargs="+", default=[1, 1024, 16384], metavar="N",
        help="rows of a call, default 1 1024 16384")  # fmt: skip
    add("--seconds", type=_positive_float, default=2.0, metavar="S",
        help="how long to measure each, default 2")  # fmt: skip
    add("--json", action="store_true", help="print the result as JSON")
    _add_serving(command)


def _add_serving(command: Any) -> None:
    add = command.add_argument
    add("--strategy", choices=("graph", "split"), default="graph",
        help="one graph, or gate and experts apart, which are loaded when needed")  # fmt: skip
    add("--max-loaded-experts", type=_positive_int, metavar="N",
        help="experts in memory at a time, with --strategy split")  # fmt: skip
    add("--threads", type=_positive_int, default=1, metavar="N", help="default 1")
    add("--provider", metavar="NAME", action="append", dest="providers",
        help="onnxruntime execution provider, such as CUDAExecutionProvider; repeatable; "
             "default: CUDA where it works, else the CPU")  # fmt: skip
    _add_key(command)


def _add_key(command: Any) -> None:
    command.add_argument(
        "--public-key", metavar="KEY", help="PEM file of the key that must have signed the bundle"
    )


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _positive_float(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return number


@contextlib.contextmanager
def _arguments() -> Iterator[None]:
    """Blame the command line for values that the library refuses: a key, a provider, ..."""
    try:
        yield
    except BundleError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None


def _load(args: argparse.Namespace) -> Predictor:
    with _arguments():
        return skmode_deploy.load(
            args.bundle,
            providers=args.providers or "auto",
            strategy=args.strategy,
            max_loaded_experts=args.max_loaded_experts,
            threads=args.threads,
            require_signature=args.public_key,
        )


# Commands.


def _inspect(args: argparse.Namespace) -> None:
    manifest = bundle.read(args.bundle)
    if args.json:
        print(manifest.to_json(), end="")
        return
    for line in _describe(manifest):
        # Names and notes are whatever somebody wrote: no control of the terminal.
        print("".join(c if c.isprintable() else "\ufffd" for c in line))


def _describe(manifest: Manifest) -> Iterator[str]:
    yield f"task        {manifest.task}, {manifest.routing.replace('_', ' ')} routing"
    if manifest.classes is not None:
        yield f"classes     {_join(manifest.classes.values)}"
    elif manifest.n_outputs > 1:
        yield f"outputs     {manifest.n_outputs}"
    yield f"experts     {manifest.n_experts}, alpha {manifest.alpha:g}"
    yield f"usage       {_join(f'{share:.1%}' for share in manifest.expert_usage)}"
    if manifest.validation_scores:
        scores = manifest.validation_scores.items()
        yield f"scores      {_join(f'{name} {score:.4f}' for name, score in scores)} (validation)"
    if manifest.quantization:
        yield f"quantized   {manifest.quantization}"
    yield f"created     {manifest.created}"
    yield f"versions    {_join(f'{name} {text}' for name, text in manifest.versions.items())}"
    for i, line in enumerate(manifest.notes.splitlines()):
        yield f"{'' if i else 'notes':<12}{line}"
    by = "by name" if manifest.from_table else "by position"
    yield ""
    yield f"columns     {len(manifest.columns)}, {by}"
    yield from _describe_columns(manifest.columns)
    yield ""
    yield f"files       {len(manifest.files)}"
    width = max(map(len, manifest.files), default=0)
    for name, file in manifest.files.items():
        yield f"  {name:<{width}}  {file.size:>12,} bytes"


def _describe_columns(columns: Sequence[Column]) -> Iterator[str]:
    width = min(max(len(column.name) for column in columns), 40)
    for column in columns:
        if column.kind == "category":
            what = f"{len(column.categories or ())} known: {_join(column.categories or ())}"
        elif column.minimum is not None and column.maximum is not None:
            what = f"{column.minimum:g} to {column.maximum:g}"
        else:
            what = ""
        missing = "may be missing" if column.has_missing else ""
        parts = filter(None, (what, missing))
        yield f"  {column.name:<{width}}  {column.kind:<8}  {column.dtype:<7}  {'; '.join(parts)}"


def _join(values: Any) -> str:
    texts = list(map(str, values))
    shown = ", ".join(texts[:20])
    return shown if len(texts) <= 20 else f"{shown} and {len(texts) - 20} more"


def _verify(args: argparse.Namespace) -> None:
    sha256 = None
    if args.public_key:
        with _arguments():
            sha256 = signing.verify_signature(args.bundle, args.public_key)
    manifest = bundle.verify(args.bundle, sha256=sha256)
    size = sum(file.size for file in manifest.files.values())
    signed = " and signature" if args.public_key else ""
    print(f"{args.bundle}: {len(manifest.files)} files{signed} verified, {size:,} bytes")


def _benchmark(args: argparse.Namespace) -> None:
    predictor = _load(args)
    speeds = [measure(predictor, n_rows, args.seconds) for n_rows in args.rows]
    if args.json:
        print(json.dumps([speed._asdict() for speed in speeds], indent=2))
        return
    print(f"{'rows':>10}  {'calls':>8}  {'median ms':>10}  {'rows/s':>12}")
    for rows, calls, median, rate in speeds:
        print(f"{rows:>10,}  {calls:>8,}  {median:>10.4f}  {rate:>12,.0f}")


def _predict(args: argparse.Namespace) -> None:
    options = _options(args)
    _check_suffixes(args)
    predictor = _load(args)
    names = [*options.keep, *_tables.output_names(predictor.manifest)]
    if len(set(names)) < len(names):
        raise UsageError(
            f"Columns of the output must have different names, got {names}: rename the column to "
            "keep in the input."
        )
    progress = Progress(args.progress or sys.stderr.isatty())
    with (
        _open_reader(args, predictor.manifest, options) as reader,
        _open_writer(args, names) as writer,
    ):
        for block in reader:
            writer.write(block.kept, _tables.output_columns(_answer(predictor, block)))
            progress.add(block.n_rows)
    progress.end()


def _options(args: argparse.Namespace) -> _tables.Options:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(args.delimiter, args.delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
        raise UsageError(
            f"--delimiter must be one ASCII character and no quotation mark, got {delimiter!r}: "
            'pass for example ";" or "tab".'
        )
    return _tables.Options(
        chunk_rows=args.chunk_rows,
        keep=tuple(dict.fromkeys(args.keep)),
        ignore_extra=args.ignore_extra,
        by_position=args.by_position or args.no_header,
        header=not args.no_header,
        delimiter=delimiter,
        missing=frozenset(args.missing),
    )


def _check_suffixes(args: argparse.Namespace) -> None:
    for name in (args.input, args.output):
        if name != "-" and not name.endswith((".csv", ".csv.gz", ".parquet")):
            raise UsageError(
                f"A file must be called .csv, .csv.gz or .parquet, got {name!r}: rename it, or "
                "pass - and redirect."
            )
    if args.input.endswith(".parquet") and (args.no_header or args.missing):
        raise UsageError(
            "--no-header and --missing are for CSV files, got a Parquet file: leave them out."
        )


def _answer(predictor: Predictor, block: Block) -> Prediction:
    try:
        return predictor.predict_full(block.rows)
    except BundleError:  # an expert that was changed before it was first needed
        raise
    except ValueError as error:
        raise InputError(f"{_locate(predictor, block)}: {error}") from None


def _locate(predictor: Predictor, block: Block) -> str:
    """Say which row of a Parquet file is refused."""
    if not hasattr(block.rows, "slice"):
        return f"In the rows from line {block.first} on"
    good, bad = 0, block.n_rows  # the first rows that pass, and that do not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            predictor.predict_full(block.rows.slice(0, middle))
            good = middle
        except ValueError:
            bad = middle
    return f"Row {block.first + bad - 1}"


@contextlib.contextmanager
def _open_reader(
    args: argparse.Namespace, manifest: Manifest, options: _tables.Options
) -> Iterator[_tables.Reader]:
    if args.input.endswith(".parquet"):
        with open(args.input, "rb") as file:
            yield _tables.ParquetReader(file, manifest, options)
        return
    with contextlib.ExitStack() as stack:
        raw: Any = sys.stdin.buffer
        if args.input != "-":
            opener: Any = gzip.open if args.input.endswith(".gz") else open
            raw = stack.enter_context(opener(args.input, "rb"))
        stream = _decoded(raw, args.encoding)
        try:
            yield _tables.CsvReader(stream, manifest, options)
        except UnicodeDecodeError as error:
            raise InputError(
                f"The input must be {args.encoding} text, and reading it gave: {error}. Pass its "
                "--encoding."
            ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                f"The input must be a gzip file, and reading it gave: {error}."
            ) from None
        finally:
            if args.input == "-":
                stream.detach()  # or stdin would be closed


def _decoded(raw: Any, encoding: str) -> io.TextIOWrapper:
    try:
        return io.TextIOWrapper(raw, encoding=encoding, newline="")
    except LookupError as error:
        raise UsageError(f"--encoding must be one that Python knows, got {error}.") from None


@contextlib.contextmanager
def _open_writer(args: argparse.Namespace, names: Sequence[str]) -> Iterator[_tables.Writer]:
    delimiter = _options(args).delimiter
    if args.output == "-":
        stream = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
        try:
            yield _tables.CsvWriter(stream, names, delimiter)
            stream.flush()
        finally:
            with contextlib.suppress(BrokenPipeError):
                stream.detach()
        return
    with _replacing(Path(args.output)) as path:
        if args.output.endswith(".parquet"):
            with contextlib.closing(_tables.ParquetWriter(path, names)) as writer:
                yield writer
            return
        opener: Any = gzip.open if args.output.endswith(".gz") else open
        with opener(path, "wt", encoding="utf-8", newline="") as stream:
            yield _tables.CsvWriter(stream, names, delimiter)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes its place if all goes well."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise UsageError(f"OUTPUT must be a file, got {str(path)!r}: pass - and redirect.")
    fresh = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    try:
        fresh.touch(exist_ok=False)
        yield fresh
        with fresh.open("r+b") as stream:
            os.fsync(stream.fileno())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


@dataclasses.dataclass
class Progress:
    """Lines on stderr that say how far a long file has come.

    Parameters
    ----------
    shown : bool
        Whether to print them.
    """

    shown: bool
    rows: int = 0
    start: float = dataclasses.field(default_factory=time.monotonic)
    last: float = dataclasses.field(default_factory=time.monotonic)

    def add(self, n_rows: int) -> None:
        """Count rows.

        Parameters
        ----------
        n_rows : int
            Rows done.
        """
        self.rows += n_rows
        now = time.monotonic()
        if self.shown and now - self.last >= PROGRESS_SECONDS:
            self.last = now
            rate = self.rows / (now - self.start)
            print(f"{self.rows:,} rows, {rate:,.0f} rows/s", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Say how long it took."""
        if self.shown:
            seconds = max(time.monotonic() - self.start, 1e-9)
            rate = self.rows / seconds
            print(f"{self.rows:,} rows in {seconds:.1f} s, {rate:,.0f} rows/s", file=sys.stderr)
