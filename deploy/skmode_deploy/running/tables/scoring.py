"""Score a file chunk by chunk."""

import dataclasses
import sys
import time

from skmode_deploy.bundle import BundleError
from skmode_deploy.errors import InferenceError
from skmode_deploy.running.predictor import Prediction, Predictor
from skmode_deploy.running.tables.chunks import Chunk, ReadOptions
from skmode_deploy.running.tables.columns import output_columns, output_names
from skmode_deploy.running.tables.errors import InputError, UsageError
from skmode_deploy.running.tables.files import open_reader, open_writer

PROGRESS_SECONDS = 2.0


def predict_file(
    predictor: Predictor,
    source: str,
    target: str,
    options: ReadOptions,
    encoding: str = "utf-8",
    show_progress: bool = False,
) -> None:
    """Write a file with a prediction for each row of another file."""
    names = [*options.keep, *output_names(predictor.manifest)]
    if len(set(names)) < len(names):
        raise UsageError(
            f"Columns of the output must have different names, got {names}: rename the column to "
            "keep in the input."
        )
    progress = Progress(show_progress)
    with (
        open_reader(source, predictor.manifest, options, encoding) as reader,
        open_writer(target, names, options.delimiter) as writer,
    ):
        for chunk in reader:
            writer.write(chunk.kept, output_columns(predict_chunk(predictor, chunk)))
            progress.add(chunk.n_rows)
    progress.end()


def predict_chunk(predictor: Predictor, chunk: Chunk) -> Prediction:
    """Predict a chunk; error messages name the invalid row."""
    try:
        return predictor.predict_full(chunk.rows)
    except BundleError:  # an expert that was changed before it was first needed
        raise
    except ValueError as error:
        raise InputError(f"{_locate(predictor, chunk)}: {error}") from None
    except InferenceError as error:
        raise InferenceError(f"{_locate(predictor, chunk)}: {error}") from error


def _locate(predictor: Predictor, chunk: Chunk) -> str:
    """Find the first invalid row of a Parquet file by bisection; for CSV name the chunk."""
    if not hasattr(chunk.rows, "slice"):
        return f"In the rows from line {chunk.first} on"
    good, bad = 0, chunk.n_rows  # numbers of first rows that pass, and that do not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            predictor.predict_full(chunk.rows.slice(0, middle))
            good = middle
        except (ValueError, InferenceError):
            bad = middle
    return f"Row {chunk.first + bad - 1}"


@dataclasses.dataclass
class Progress:
    """Prints on stderr how many rows are done, every other second."""

    shown: bool
    unit: str = "rows"
    rows: int = 0
    start: float = dataclasses.field(default_factory=time.monotonic)
    last: float = dataclasses.field(default_factory=time.monotonic)

    def add(self, n_rows: int) -> None:
        """Count rows."""
        self.rows += n_rows
        now = time.monotonic()
        if self.shown and now - self.last >= PROGRESS_SECONDS:
            self.last = now
            rate = self.rows / (now - self.start)
            print(
                f"{self.rows:,} {self.unit}, {rate:,.0f} {self.unit}/s", file=sys.stderr, flush=True
            )

    def end(self) -> None:
        """Print the total."""
        if self.shown:
            seconds = max(time.monotonic() - self.start, 1e-9)
            rate = self.rows / seconds
            done = f"{self.rows:,} {self.unit} in {seconds:.1f} s"
            print(f"{done}, {rate:,.0f} {self.unit}/s", file=sys.stderr)
