"""Run the commands, given their arguments."""

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import sys
from collections.abc import Iterator

import skmode_deploy
from skmode_deploy import bundle, language, signing
from skmode_deploy.bundle import MODEL, BundleError
from skmode_deploy.cli.benchmark import default_rows, measure
from skmode_deploy.cli.describe import describe
from skmode_deploy.cli.image_folder import (
    MAX_VALUES,
    SUFFIXES,
    check_folder_options,
    predict_folder,
)
from skmode_deploy.cli.triton import CONFIG, write_repository
from skmode_deploy.errors import ManifestChangedError
from skmode_deploy.running.predictor import Predictor, check_key
from skmode_deploy.running.tables.chunks import ReadOptions
from skmode_deploy.running.tables.csv_files import MAX_LINE_CHARACTERS
from skmode_deploy.running.tables.errors import UsageError
from skmode_deploy.running.tables.files import check_names
from skmode_deploy.running.tables.scoring import predict_file
from skmode_deploy.samples import check_samples, read_samples


def run_inspect(args: argparse.Namespace) -> None:
    manifest = bundle.read(args.bundle)
    if args.json:
        _print(manifest.to_json(), end="")
        return
    for line in describe(manifest):
        # Names and notes are untrusted text, which must not control the terminal.
        _print("".join(c if c.isprintable() else "\ufffd" for c in line))


def _print(text: str, end: str = "\n") -> None:
    """Print text, whatever stdout can encode."""
    if sys.stdout is None:
        raise UsageError("Standard output must be open, but it is closed: redirect it.")
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end=end)


def run_verify(args: argparse.Namespace) -> None:
    sha256 = None
    if args.public_key is not None:
        with _as_usage_errors():
            check_key(args.public_key)
            sha256 = signing.verify_signature(args.bundle, args.public_key)
    manifest = bundle.verify(args.bundle, sha256=sha256)
    size = sum(file.size for file in manifest.files.values())
    signed = " and signature" if sha256 is not None else ""
    samples = _verify_samples(args.bundle, manifest)
    _print(f"{args.bundle}: {len(manifest.files)} files{signed} verified, {size:,} bytes{samples}")


def _verify_samples(folder: str, manifest: bundle.Manifest) -> str:
    """Check the predictions for the sample rows, if there are any; return text to print."""
    if manifest.language is not None:
        model = language.load(folder, max_loaded_experts=1)
        _check_same(folder, model.manifest, manifest)
        n_texts = language.check_samples(model)
        return f", {n_texts} sample texts match the model's predictions" if n_texts else ""
    samples = read_samples(folder, manifest)
    if samples is None and not manifest.text_columns:
        return ""
    predictor = skmode_deploy.load(folder)  # reads the tokenizers of texts, too
    _check_same(folder, predictor.manifest, manifest)
    if samples is None:
        return ""
    check_samples(predictor)
    whose = "the model's" if samples.source == "estimator" else "the export's"
    return f", {samples.n_rows} sample rows match {whose} predictions"


def _check_same(folder: str, opened: bundle.Manifest, verified: bundle.Manifest) -> None:
    if opened != verified:
        raise ManifestChangedError(
            f"A bundle must not change while it is verified, but {folder!r} was replaced: "
            "verify it again."
        )


def run_benchmark(args: argparse.Namespace) -> None:
    predictor = _load(args)
    rows = args.rows or default_rows(predictor.manifest)
    speeds = [measure(predictor, n_rows, args.seconds) for n_rows in rows]
    if args.json:
        _print(json.dumps([speed._asdict() for speed in speeds], indent=2))
        return
    _print(f"{'rows':>10}  {'calls':>8}  {'median ms':>10}  {'rows/s':>12}")
    for rows, calls, median, rate in speeds:
        _print(f"{rows:>10,}  {calls:>8,}  {median:>10.4f}  {rate:>12,.0f}")


def run_predict(args: argparse.Namespace) -> None:
    options = _read_options(args)
    show_progress = args.progress or (sys.stderr is not None and sys.stderr.isatty())
    if os.path.isdir(args.input):
        check_folder_options(args.output, options)
        predict_folder(_load(args), args.input, args.output, options, show_progress)
        return
    if args.input.lower().endswith(SUFFIXES):
        raise UsageError(
            f"INPUT must be a folder of images or a table, got the image {args.input!r}: pass the "
            "folder that it is in."
        )
    check_names(args.input, args.output, options)
    csv.field_size_limit(MAX_LINE_CHARACTERS)  # texts may be longer than the default
    predictor = _load(args)
    if predictor.manifest.image is not None:
        raise UsageError(
            f"INPUT must be a folder of images, because the model reads images, got {args.input!r}:"
            " pass a folder with .png, .jpg or .jpeg files."
        )
    if predictor.manifest.n_pixel_values:
        most = max(1, MAX_VALUES // predictor.manifest.n_pixel_values)
        options = dataclasses.replace(options, chunk_rows=min(options.chunk_rows, most))
    predict_file(predictor, args.input, args.output, options, args.encoding, show_progress)


def run_triton(args: argparse.Namespace) -> None:
    with _as_usage_errors():
        folder = write_repository(
            args.bundle,
            args.repository,
            name=args.name,
            version=args.version,
            max_batch_size=args.max_batch_size,
            max_queue_delay_microseconds=args.max_queue_delay,
            instances=args.instances,
            overwrite_config=args.overwrite_config,
            require_signature=args.public_key,
        )
    print(f"{folder}: {(folder / MODEL).stat().st_size:,} bytes of {MODEL}, {CONFIG} beside it")


@contextlib.contextmanager
def _as_usage_errors() -> Iterator[None]:
    """Report arguments that the library rejects, such as a key, as wrong usage."""
    try:
        yield
    except BundleError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None


def _load(args: argparse.Namespace) -> Predictor:
    with _as_usage_errors():
        return skmode_deploy.load(
            args.bundle,
            providers=args.providers or "auto",
            strategy=args.strategy,
            max_loaded_experts=args.max_loaded_experts,
            threads=args.threads,
            require_signature=args.public_key,
        )


def _read_options(args: argparse.Namespace) -> ReadOptions:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(args.delimiter, args.delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
        raise UsageError(
            f"--delimiter must be one ASCII character, not a quotation mark, got {delimiter!r}: "
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
