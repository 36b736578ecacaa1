"""Predict the images of a folder, and write a table with one row for each."""

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice

from skmode_deploy.bundle import BundleError, Image
from skmode_deploy.errors import InferenceError
from skmode_deploy.running.inputs.decoding import decode
from skmode_deploy.running.predictor import Prediction, Predictor
from skmode_deploy.running.tables.chunks import ReadOptions
from skmode_deploy.running.tables.columns import output_columns, output_names
from skmode_deploy.running.tables.errors import InputError, UsageError
from skmode_deploy.running.tables.files import open_writer
from skmode_deploy.running.tables.scoring import Progress

SUFFIXES = (".png", ".jpg", ".jpeg")
FILE = "file"  # the column of the output with the path below the folder
MAX_VALUES = 2**23  # of all images in memory at a time


def check_folder_options(target: str, options: ReadOptions) -> None:
    """Check the options of the command before anything else is done."""
    if target != "-" and not target.endswith((".csv", ".csv.gz", ".parquet")):
        raise UsageError(
            f"OUTPUT must be called .csv, .csv.gz or .parquet, got {target!r}: rename it, or pass "
            "- and redirect."
        )
    used = {
        "--keep": options.keep,
        "--ignore-extra": options.ignore_extra,
        "--by-position": options.by_position,
        "--missing": options.missing,
    }
    given = [name for name, value in used.items() if value]
    if given:
        raise UsageError(
            f"{', '.join(given)} and --no-header are for tables, but INPUT is a folder: leave them "
            "out."
        )


def predict_folder(
    predictor: Predictor, folder: str, target: str, options: ReadOptions, show_progress: bool
) -> None:
    """Write a file with a prediction for each image in a folder and the folders below it."""
    image = predictor.manifest.image
    if image is None:
        raise UsageError(
            f"INPUT must be a file, because the model reads no images, got the folder {folder!r}: "
            "pass a .csv, .csv.gz or .parquet file."
        )
    names = [FILE, *output_names(predictor.manifest)]
    n_images = max(1, min(options.chunk_rows, MAX_VALUES // predictor.manifest.n_pixel_values))
    progress = Progress(show_progress, unit="images")
    listing = _Listing(folder)
    with open_writer(target, names, options.delimiter) as writer:
        paths = iter(listing)
        while chunk := list(islice(paths, n_images)):
            writer.write([chunk], output_columns(_predict(predictor, image, folder, chunk)))
            progress.add(len(chunk))
        if not listing.n_images:
            raise InputError(
                f"INPUT must be a folder with {', '.join(SUFFIXES)} files, got {folder!r} without "
                "any: pass another folder."
            )
    progress.end()
    listing.report_others()


class _Listing:
    """The images below a folder, in the order of their names; counts all other files."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.n_images = 0
        self._n_others = 0
        self._other = ""
        self._links: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for parent, folders, files in os.walk(self._folder, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in folders:  # a link may lead back to a folder above it
                if os.path.islink(os.path.join(parent, name)):
                    self._links.append(self._below(parent, name))
            for name in sorted(files):
                if name.startswith("."):  # such as .DS_Store
                    continue
                path = self._below(parent, name)
                if name.lower().endswith(SUFFIXES):
                    self.n_images += 1
                    yield _checked_text(path)
                else:
                    self._n_others += 1
                    self._other = self._other or path

    def report_others(self) -> None:
        """Say on stderr that files, or links to folders, were left out."""
        if sys.stderr is None:
            return
        if self._n_others:
            print(
                f"skmode-deploy: left out files not called {', '.join(SUFFIXES)}: "
                f"{self._n_others:,}, such as {self._other!r}",
                file=sys.stderr,
            )
        if self._links:
            print(
                f"skmode-deploy: left out links to folders: {len(self._links):,}, such as "
                f"{self._links[0]!r}",
                file=sys.stderr,
            )

    def _below(self, parent: str, name: str) -> str:
        path = os.path.relpath(os.path.join(parent, name), self._folder)
        return path.replace(os.sep, "/")


def _raise(error: OSError) -> None:
    raise error


def _checked_text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"Names of files must be text that UTF-8 can encode, got {path!r}: rename the file."
        ) from None
    return path


def _predict(predictor: Predictor, image: Image, folder: str, paths: Sequence[str]) -> Prediction:
    """Predict some images; error messages name the file."""
    images = []
    for path in paths:
        full = os.path.join(folder, path)
        if not os.path.isfile(full):  # a pipe would never end
            raise InputError(f"An image must be a file, got {full!r}: remove it.")
        try:
            images.append(decode(full, image, "The image"))
        except ValueError as error:
            raise InputError(str(error)) from None
    try:
        return predictor.predict_full(images)
    except BundleError:
        raise
    except InferenceError as error:
        raise InferenceError(f"In the images from {paths[0]!r} on: {error}") from error
