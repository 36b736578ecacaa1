"""The command line: look into bundles, check them, and predict files of any length."""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import skmode_deploy
from skmode_deploy import bundle, signing
from skmode_deploy.bundle import BundleError
from skmode_deploy.cli.benchmark import measure
from skmode_deploy.cli.describe import describe
from skmode_deploy.cli.triton import add_triton
from skmode_deploy.errors import ManifestChangedError
from skmode_deploy.running.predictor import Predictor, check_key
from skmode_deploy.samples import check_samples, read_samples
from skmode_deploy.serving.cli import add_rollback, add_serve
from skmode_deploy.tables.chunks import ReadOptions
from skmode_deploy.tables.errors import InputError, UsageError
from skmode_deploy.tables.files import check_names
from skmode_deploy.tables.scoring import predict_file

PROGRAM = "skmode-deploy"
MOST = 2**31 - 1  # of whatever is counted

EXIT_CODES = """\
exit codes:
  0    done
  1    the bundle is refused
  2    wrong usage, or a file that cannot be opened or written
  3    the input data are refused
  70   out of memory, or a defect of this program
  129  the terminal was closed
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

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
            if sys.stdout is not None:
                sys.stdout.flush()
    except BundleError as error:
        return _fail(1, error)
    except InputError as error:
        return _fail(3, error)
    except BrokenPipeError:
        _drop_output()
        return 141
    except (UsageError, ImportError, OSError) as error:
        _drop_output()
        return _fail(2, error)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except MemoryError:
        return _fail(70, "out of memory: pass smaller --chunk-rows, or fewer --rows")
    except Exception:
        return _fail(70, f"this should not happen, please report it:\n{traceback.format_exc()}")
    return 0


def _fail(code: int, message: object) -> int:
    if sys.stderr is not None:  # or print would take stdout
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Send what stdout still holds nowhere, for Python flushes it once more at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError):  # it is closed
        pass


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let signals end the program by an exception, so that nothing half-written is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored stays so: nohup.
    before = {i: signal.getsignal(i) for i in numbers if signal.getsignal(i) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    for add in (
        _add_inspect,
        _add_verify,
        _add_predict,
        _add_benchmark,
        add_serve,
        add_rollback,
        add_triton,
    ):
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
        commands,
        "verify",
        _verify,
        "check every file of a bundle, its signature, and its answers on its sample rows",
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
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MOST:,}, got {text}")
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
        _say(manifest.to_json(), end="")
        return
    for line in describe(manifest):
        # Names and notes are whatever somebody wrote: no control of the terminal.
        _say("".join(c if c.isprintable() else "\ufffd" for c in line))


def _say(text: str, end: str = "\n") -> None:
    """Print, whatever stdout can encode."""
    if sys.stdout is None:
        raise UsageError("Standard output must be open, and it is closed: redirect it.")
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end=end)


def _verify(args: argparse.Namespace) -> None:
    sha256 = None
    if args.public_key is not None:
        with _arguments():
            check_key(args.public_key)
            sha256 = signing.verify_signature(args.bundle, args.public_key)
    manifest = bundle.verify(args.bundle, sha256=sha256)
    size = sum(file.size for file in manifest.files.values())
    signed = " and signature" if sha256 is not None else ""
    answered = _verify_samples(args.bundle, manifest)
    _say(f"{args.bundle}: {len(manifest.files)} files{signed} verified, {size:,} bytes{answered}")


def _verify_samples(folder: str, manifest: bundle.Manifest) -> str:
    """Compare answers on the sample rows, where there are any, and say so."""
    samples = read_samples(folder, manifest)
    if samples is None:
        return ""
    predictor = skmode_deploy.load(folder)
    if predictor.manifest != manifest:
        raise ManifestChangedError(
            f"A bundle must stay as it is while it is verified, and {folder!r} was replaced: "
            "verify it again."
        )
    check_samples(predictor)
    whom = "by the model" if samples.source == "estimator" else "at the export"
    return f", {samples.n_rows} sample rows answered as {whom}"


def _benchmark(args: argparse.Namespace) -> None:
    predictor = _load(args)
    speeds = [measure(predictor, n_rows, args.seconds) for n_rows in args.rows]
    if args.json:
        _say(json.dumps([speed._asdict() for speed in speeds], indent=2))
        return
    _say(f"{'rows':>10}  {'calls':>8}  {'median ms':>10}  {'rows/s':>12}")
    for rows, calls, median, rate in speeds:
        _say(f"{rows:>10,}  {calls:>8,}  {median:>10.4f}  {rate:>12,.0f}")


def _predict(args: argparse.Namespace) -> None:
    options = _options(args)
    check_names(args.input, args.output, options)
    show_progress = args.progress or (sys.stderr is not None and sys.stderr.isatty())
    predict_file(_load(args), args.input, args.output, options, args.encoding, show_progress)


def _options(args: argparse.Namespace) -> ReadOptions:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(args.delimiter, args.delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
        raise UsageError(
            f"--delimiter must be one ASCII character and no quotation mark, got {delimiter!r}: "
            'pass for example ";" or "tab".'
        )
    return ReadOptions(
        chunk_rows=args.chunk_rows,
        keep=tuple(dict.fromkeys(args.keep)),
        ignore_extra=args.ignore_extra,
        by_position=args.by_position or args.no_header,
        header=not args.no_header,
        delimiter=delimiter,
        missing=frozenset(args.missing),
    )
