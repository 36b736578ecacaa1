"""The commands of ``skmode-deploy`` and their arguments."""

import argparse
from typing import Any

import skmode_deploy
from skmode_deploy.cli.commands import (
    run_benchmark,
    run_inspect,
    run_predict,
    run_triton,
    run_verify,
)
from skmode_deploy.cli.language import add_generate, add_route
from skmode_deploy.cli.triton import CONFIG
from skmode_deploy.running.tables.chunks import CHUNK_ROWS
from skmode_deploy.serving.cli import add_rollback, add_serve

PROGRAM = "skmode-deploy"
MAX_COUNT = 2**31 - 1

EXIT_CODES = """\
exit codes:
  0    done
  1    the bundle is refused
  2    wrong usage, or a file that cannot be opened or written
  3    the input data are refused
  70   out of memory, or a failure of onnxruntime or of this program
  129  the terminal was closed
  130  interrupted
  141  the reader of the output closed it (broken pipe)
  143  terminated
"""

PREDICT_RULES = (
    """\
Folders of images:
  Every .png, .jpg and .jpeg file in the folder and in folders below it gets one row, in the order
  of the names; the column "file" holds its path. Names that start with a dot are ignored. Images
  must have the size and the colours of training.

Files of texts:
  A model of texts reads one column: the one with the name of training, or else the only one that is
  not kept. Empty fields are missing texts.

Columns of images:
  In a table, such a column holds the paths of PNG and JPEG files, in Parquet also their bytes.
  Relative paths start from the folder in which the command runs. Empty fields are missing images.

CSV files:
  The first line holds the names of the columns. Every row has one field per column. Fields that
  contain the delimiter, quotation marks or line ends are in double quotes. Files are UTF-8, with
  or without byte order mark. The output is UTF-8, with the same delimiter.

  Empty fields and the texts given by --missing are missing values. A number is anything that
  Python's float() reads; "nan" is missing, True and False are 1 and 0. Infinite numbers are an
  error. Strings are read unchanged; strings that training did not see are allowed.

"""
    + EXIT_CODES
)


class _Command(argparse.ArgumentParser):
    """A command, which answers an option that it does not know with its own usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands; each sets `run`, the function that does the work."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Inspect, check and run models that skmode.onnx.export wrote.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROGRAM} {skmode_deploy.__version__}"
    )
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=_Command
    )
    for add in (
        _add_inspect,
        _add_verify,
        _add_predict,
        _add_benchmark,
        add_serve,
        add_rollback,
        _add_triton,
    ):
        add(commands)
    add_generate(commands, EXIT_CODES)
    add_route(commands, EXIT_CODES)
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
    command = _add_command(commands, "inspect", run_inspect, "say what a bundle holds")
    command.add_argument("--json", action="store_true", help="print the manifest as JSON")


def _add_verify(commands: Any) -> None:
    command = _add_command(
        commands,
        "verify",
        run_verify,
        "check every file of a bundle, its signature, and its predictions for its sample rows",
    )
    _add_key(command)


def _add_predict(commands: Any) -> None:
    command = _add_command(
        commands,
        "predict",
        run_predict,
        "predict each row of a file, or each image of a folder",
        epilog=PREDICT_RULES,
    )
    add = command.add_argument
    add(
        "input",
        metavar="INPUT",
        help=".csv, .csv.gz or .parquet file, - for CSV from stdin, or a folder of images",
    )
    add("output", metavar="OUTPUT", help=".csv, .csv.gz or .parquet file, or - for CSV to stdout")
    add("--keep", metavar="COLUMN", action="append", default=[],
        help="copy this column of the input to the output, such as an id; repeatable")  # fmt: skip
    add("--ignore-extra", action="store_true", help="ignore columns that the model does not use")
    add("--by-position", action="store_true",
        help="read the columns in the order of training, ignoring their names")  # fmt: skip
    add("--no-header", action="store_true",
        help="the CSV file has no header, and all columns in the order of training")  # fmt: skip
    add("--missing", metavar="TEXT", action="append", default=[],
        help="text that means a missing value in CSV, such as NA; repeatable")  # fmt: skip
    add("--delimiter", default=",", metavar="CHAR", help='default ","; "tab" for a tab')
    add("--encoding", default="utf-8", help="encoding of a CSV input, default utf-8")
    add("--chunk-rows", type=_positive_int, default=CHUNK_ROWS, metavar="N",
        help=f"rows in memory at a time, default {CHUNK_ROWS}, or fewer images")  # fmt: skip
    add("--progress", action="store_true", help="show progress even if stderr is not a terminal")
    _add_serving(command)


def _add_benchmark(commands: Any) -> None:
    command = _add_command(
        commands, "benchmark", run_benchmark, "measure how fast a bundle predicts random rows"
    )
    add = command.add_argument
    add("--rows", type=_positive_int, nargs="+", metavar="N",
        help="rows of a call, default 1 1024 16384, or fewer images")  # fmt: skip
    add("--seconds", type=_positive_float, default=2.0, metavar="S",
        help="how long to measure each, default 2")  # fmt: skip
    add("--json", action="store_true", help="print the result as JSON")
    _add_serving(command)


def _add_serving(command: Any) -> None:
    add = command.add_argument
    add("--strategy", choices=("graph", "split"), default="graph",
        help="one graph, or the gate, with experts loaded when needed; default graph")  # fmt: skip
    add("--max-loaded-experts", type=_positive_int, metavar="N",
        help="experts in memory at a time, with --strategy split")  # fmt: skip
    add("--threads", type=_positive_int, default=1, metavar="N",
        help="threads for one operation, default 1")  # fmt: skip
    add("--provider", metavar="NAME", action="append", dest="providers",
        help="onnxruntime execution provider, such as CUDAExecutionProvider; repeatable; "
             "default: CUDA if it works, else the CPU")  # fmt: skip
    _add_key(command)


def _add_triton(commands: Any) -> None:
    text = "write a bundle's model into a model repository of the Triton Inference Server"
    command = commands.add_parser(
        "triton", help=text, description=f"{text[0].upper()}{text[1:]}, with its configuration."
    )
    command.set_defaults(run=run_triton)
    add = command.add_argument
    add("bundle", metavar="BUNDLE", help="folder of the bundle")
    add("repository", metavar="REPOSITORY", help="folder of the model repository")
    add("--name", metavar="NAME", help="name of the model, default that of the bundle's folder")
    add("--version", metavar="N", type=int, default=1, help="version of the model, default 1")
    add("--max-batch-size", metavar="N", type=int, default=1024,
        help="rows of a run, default 1024")  # fmt: skip
    add("--max-queue-delay", metavar="US", type=int, default=0,
        help="microseconds that a request may wait for others, default 0")  # fmt: skip
    add("--instances", metavar="N", type=int, default=2,
        help="runs at the same time, one thread each, default 2")  # fmt: skip
    add("--overwrite-config", action="store_true",
        help=f"replace an existing {CONFIG}; by default it is kept if it fits")  # fmt: skip
    add("--public-key", metavar="KEY",
        help="PEM file of the key that must have signed the bundle")  # fmt: skip


def _add_key(command: Any) -> None:
    command.add_argument(
        "--public-key", metavar="KEY", help="PEM file of the key that must have signed the bundle"
    )


def _positive_int(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MAX_COUNT:,}, got {text}")
    return number


def _positive_float(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return number
