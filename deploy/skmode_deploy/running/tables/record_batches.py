"""Score Arrow record batches: choose columns, score chunks, convert predictions to Arrow."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.types import is_nested

from skmode_deploy.bundle import Manifest
from skmode_deploy.bundle.messages import as_sentence, list_names
from skmode_deploy.running.predictor import Predictor
from skmode_deploy.running.sessions import check_at_least_one
from skmode_deploy.running.tables.chunks import CHUNK_ROWS, Chunk, ReadOptions
from skmode_deploy.running.tables.columns import (
    Selection,
    only_text_column,
    output_columns,
    output_names,
    select_columns,
)
from skmode_deploy.running.tables.errors import InputError
from skmode_deploy.running.tables.scoring import predict_chunk


def score_batches(
    batches: Iterable[pa.RecordBatch],
    predictor: Predictor,
    options: ReadOptions,
    fields: Sequence[pa.Field],
) -> Iterator[pa.RecordBatch]:
    """Yield the predictions of each batch, at most `chunk_rows` rows at a time."""
    row = 1
    for batch in batches:
        if not isinstance(batch, pa.RecordBatch):
            raise TypeError(
                f"batches must be an iterable of pyarrow.RecordBatch, got {type(batch).__name__} "
                "in it: pass table.to_batches() of a table, and [batch] for a single batch."
            )
        selection = select_batch_columns(batch.schema.names, predictor.manifest, options)
        _refuse_nested([batch.schema.field(i) for i in selection.model])
        for start in range(0, max(batch.num_rows, 1), options.chunk_rows):
            part = batch.slice(start, options.chunk_rows)
            yield _score_part(part, row, selection, predictor, fields)
            row += part.num_rows


def _score_part(
    part: pa.RecordBatch,
    row: int,
    selection: Selection,
    predictor: Predictor,
    fields: Sequence[pa.Field],
) -> pa.RecordBatch:
    names = [column.name for column in predictor.manifest.columns]
    # As a table, the form in which predictors read Arrow data.
    rows = pa.Table.from_arrays([part.column(i) for i in selection.model], names=names)
    kept = [part.column(i) for i in selection.kept]
    try:
        prediction = predict_chunk(predictor, Chunk(rows, kept, part.num_rows, row))
    except pa.ArrowException as error:  # a type that numpy does not have
        raise InputError(
            f"The rows from {row} on must hold numbers and strings, but reading them failed: "
            f"{as_sentence(error)} Convert the columns."
        ) from None
    columns = zip(output_columns(prediction), fields, strict=True)
    return pa.RecordBatch.from_arrays(
        [*kept, *(_to_arrow(values, field.type) for values, field in columns)],
        schema=pa.schema([*(part.schema.field(i) for i in selection.kept), *fields]),
    )


def _refuse_nested(fields: Sequence[pa.Field]) -> None:
    nested = [f"{field.name!r} of type {field.type}" for field in fields if is_nested(field.type)]
    if nested:
        raise InputError(
            f"Columns of the model must hold numbers or strings, got {', '.join(nested[:10])}: "
            "take the values out of the lists, structs or maps."
        )


def _to_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if values.dtype.kind in "UO":  # Arrow takes no numpy strings of fixed width
        return pa.array(values.tolist(), kind)
    return pa.array(values.astype(values.dtype.newbyteorder("="), copy=False), kind)


def prediction_fields(manifest: Manifest) -> list[pa.Field]:
    """Return names and types of the predictions."""
    if manifest.image is not None:
        raise ValueError(
            "A bundle must read tables or arrays to score record batches, got one that reads "
            "images: use skmode_deploy.load and predict, or skmode-deploy predict with a folder."
        )
    names = output_names(manifest)
    if manifest.classes is None:
        types = [pa.float32()] * manifest.n_outputs
    else:
        dtype = np.dtype(manifest.classes.dtype)
        labels = np.array(manifest.classes.values, dtype)
        label = (
            pa.array(labels.tolist()).type
            if dtype.kind in "UO"
            else pa.from_numpy_dtype(dtype.newbyteorder("="))
        )
        types = [label, *[pa.float32()] * manifest.n_outputs]
    types += [pa.int64(), pa.float32()]
    return [pa.field(name, kind) for name, kind in zip(names, types, strict=True)]


def check_options(
    keep: Sequence[str],
    ignore_extra: bool = False,
    by_position: bool = False,
    chunk_rows: int = CHUNK_ROWS,
) -> ReadOptions:
    """Check the options of `skmode_deploy.batch`."""
    if isinstance(keep, str) or not all(isinstance(name, str) for name in keep):
        raise ValueError(
            f"keep must be a sequence of column names, got {keep!r}: pass for example ['id']."
        )
    return ReadOptions(
        chunk_rows=check_at_least_one(chunk_rows, "chunk_rows"),
        keep=tuple(keep),
        ignore_extra=ignore_extra,
        by_position=by_position,
    )


def check_output_names(options: ReadOptions, fields: Sequence[pa.Field]) -> None:
    """Raise if two columns of the output have the same name."""
    names = [*options.keep, *(field.name for field in fields)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Columns of the output must have different names, got {list_names(twice)} more than "
            "once: name each column to keep once, and rename those with the name of a prediction."
        )


def kept_fields(schema: pa.Schema | None, options: ReadOptions) -> list[pa.Field]:
    """Return names and types of the columns to copy."""
    if schema is None and options.keep:
        raise ValueError(
            "input_schema must give the types of the columns to keep, got None with "
            f"{list_names(options.keep)} to keep: pass the schema of the rows."
        )
    if schema is not None:
        _check_kept(schema.names, options)
    return [schema.field(name) for name in options.keep] if schema is not None else []


def _check_kept(names: Sequence[str], options: ReadOptions) -> None:
    lost = [name for name in options.keep if name not in names]
    if lost:
        raise InputError(
            f"A column to keep must be in the input, got {list_names(lost)}: the input has "
            f"{list_names(names)}."
        )


def select_batch_columns(
    names: Sequence[str], manifest: Manifest, options: ReadOptions
) -> Selection:
    """Find the columns; messages name parameters instead of the options of the command line."""
    _check_kept(names, options)
    expected = [column.name for column in manifest.columns]
    found = options.by_position or only_text_column(names, manifest, options) is not None
    missing = [] if found else [name for name in expected if name not in names]
    if missing:
        fix = (
            "add them, with nulls if nothing is known."
            if manifest.from_table
            else "rename them, or pass by_position=True to take the columns in their order."
        )
        raise InputError(
            f"Rows must have the columns of the model, got none called {list_names(missing)}: {fix}"
        )
    selection = select_columns(names, manifest, dataclasses.replace(options, ignore_extra=True))
    used = {*selection.model, *selection.kept}
    extra = [name for i, name in enumerate(names) if i not in used]
    if extra and not options.ignore_extra:
        raise InputError(
            f"Rows must have only the columns of the model, got {list_names(extra)} as well: pass "
            "ignore_extra=True to leave them out, or keep=[...] with the names of columns to copy "
            "to the output."
        )
    return selection


def read_batches(file: Any, manifest: Manifest, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    """Read the columns that are needed from a Parquet file, in the order of the file."""
    names = file.schema_arrow.names
    selection = select_batch_columns(names, manifest, options)
    wanted = [names[i] for i in sorted({*selection.model, *selection.kept})]
    row = 1
    try:
        for batch in file.iter_batches(options.chunk_rows, columns=wanted):
            yield batch
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"Row {row} must be readable, but reading it failed: {as_sentence(error)}"
        ) from None


@contextlib.contextmanager
def naming_file(name: str) -> Iterator[None]:
    """Add the name of the file to messages about its rows."""
    try:
        yield
    except InputError as error:
        raise InputError(f"In {name!r}: {error}") from None
