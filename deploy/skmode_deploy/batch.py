"""Answers for rows where they are: from Arrow record batches to Arrow record batches.

:func:`score` is a function of an iterator that gives an iterator, and so fits into whatever
distributes rows over processes: ``map_partitions`` of Dask, ``map_batches`` of Ray Data,
``mapInArrow`` of Spark. What travels to the workers is the path of the bundle; each process opens
it once, when it first needs it, and keeps it. :func:`score_folder` does the same in one process
with a folder of Parquet files.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode_deploy import bundle as bundles
from skmode_deploy.bundle import Manifest
from skmode_deploy.bundle.messages import as_sentence, list_names
from skmode_deploy.bundle.reading import manifest_sha256
from skmode_deploy.running.predictor import Predictor
from skmode_deploy.running.predictor_cache import PredictorCache
from skmode_deploy.running.sessions import check_at_least_one
from skmode_deploy.tables import answers as _batch
from skmode_deploy.tables import blocks as _tables
from skmode_deploy.tables.blocks import Block, InputError, Options, Selection
from skmode_deploy.tables.parquet_folders import Job, ScoredFolder

try:
    import pyarrow as pa
    from pyarrow.types import is_nested
except ImportError:
    raise ImportError(
        "skmode_deploy.batch needs pyarrow, which is not installed: install the extra 'parquet' "
        "of skmode-deploy (in a checkout: pip install './deploy[parquet]')."
    ) from None

__all__ = ["manifest_sha256", "output_schema", "score", "score_folder"]

CHUNK_ROWS = 8192

_PREDICTORS = PredictorCache()


def score(
    batches: Iterable[pa.RecordBatch],
    bundle: str | os.PathLike[str],
    *,
    keep: Sequence[str] = (),
    ignore_extra: bool = False,
    by_position: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    sha256: str | None = None,
    threads: int = 1,
    **load_options: Any,
) -> Iterator[pa.RecordBatch]:
    """Answer for each row of some record batches.

    Rows stay in their order, none is added and none left out. At most `chunk_rows` rows are
    computed at a time, and batches that are longer come back in parts.

    A process opens a bundle once, however often it calls this function and from however many
    threads, and again only where the bundle is replaced or the options change. So what goes to
    another process is this function and its arguments: ``functools.partial(score, bundle=path)``
    can be pickled, and holds nothing of the model.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        Rows, as :meth:`Predictor.predict_full` takes them: columns go by name, in any order.
        Strings may be of any string type, or dictionary encoded; numbers may be integers, floats,
        decimals or booleans; nulls are missing values.
    bundle : path
        Folder of the bundle.
    keep : sequence of str, default=()
        Names of the columns to copy to the output, before the answers. Each keeps its type.
    ignore_extra : bool, default=False
        Whether columns that the model does not know are passed over. Else they are refused.
    by_position : bool, default=False
        Whether the model's columns are the first ones that are not kept, whatever their names.
    chunk_rows : int, default=8192
        How many rows are computed at a time.
    sha256 : str or None, default=None
        What :func:`manifest_sha256` must say about the bundle. Whoever distributes rows computes
        it once, and so has all rows answered by one model, even if somebody replaces the bundle
        in between or a worker has an old copy. None for any.
    threads : int, default=1
        Threads that compute one operation. Where each core has a worker of its own, 1 is best.
    **load_options : dict
        Further options of :func:`skmode_deploy.load`, such as ``strategy="split"``.

    Returns
    -------
    iterator of pyarrow.RecordBatch
        The columns of `keep`, and those of the answers: ``prediction`` (``prediction_0`` and so
        on where a row has several values), ``probability_<class>`` of a classifier, ``expert``
        and ``gate_probability``. :func:`output_schema` says so beforehand.

    Raises
    ------
    BundleError
        If the bundle is refused, or is not the one of `sha256`.
    ValueError
        If an option is refused. The iterator raises it where rows are refused, and says which is
        the first of them, counted from 1, and why.
    TypeError
        If the bundle is no path or an option unknown. The iterator raises it where a batch is
        none.

    Examples
    --------
    >>> import tempfile
    >>> import pyarrow
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.onnx import export
    >>> from skmode_deploy import batch
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> estimator = MoDEClassifier(n_experts=4, max_epochs=20, random_state=0).fit(X, y)
    >>> rows = pyarrow.Table.from_pandas(X.assign(flower=range(150)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(estimator, folder)
    ...     answers = list(batch.score(rows.to_batches(50), folder, keep=["flower"]))
    >>> [answer.num_rows for answer in answers]
    [50, 50, 50]
    >>> answers[0].schema.names[:3]
    ['flower', 'prediction', 'probability_0']
    >>> answers[0].slice(0, 2).select(["flower", "prediction"]).to_pylist()
    [{'flower': 0, 'prediction': 0}, {'flower': 1, 'prediction': 0}]
    """
    options = _checked_options(keep, ignore_extra, by_position, chunk_rows)
    predictor = _PREDICTORS.get(bundle, sha256, {"threads": threads, **load_options})
    answers = _answer_fields(predictor.manifest)
    _check_output_names(options, answers)
    return _score(batches, predictor, options, answers)


def output_schema(
    bundle: str | os.PathLike[str],
    input_schema: pa.Schema | None = None,
    *,
    keep: Sequence[str] = (),
) -> pa.Schema:
    """Say which columns the answers of a bundle have, without opening it.

    Parameters
    ----------
    bundle : path
        Folder of the bundle. Only its manifest is read.
    input_schema : pyarrow.Schema or None, default=None
        Columns of the input; only needed with `keep`.
    keep : sequence of str, default=()
        Names of the columns to copy to the output.

    Returns
    -------
    pyarrow.Schema
        Names and types of the columns that :func:`score` gives. It has no metadata.

    Raises
    ------
    BundleError
        If the manifest is refused.
    ValueError
        If a column to keep is not in `input_schema`, or has the name of an answer.

    Examples
    --------
    >>> import tempfile
    >>> import pyarrow
    >>> from skmode_deploy import batch, bundle
    >>> manifest = bundle.Manifest(
    ...     task="regression",
    ...     routing="top_expert",
    ...     input="array",
    ...     from_table=False,
    ...     columns=(bundle.Column("x0", "X", "number", "float32"),),
    ...     n_outputs=1,
    ...     classes=None,
    ...     n_experts=1,
    ...     alpha=0.0,
    ...     expert_usage=(1.0,),
    ...     validation_scores=None,
    ...     versions={},
    ... )
    >>> rows = pyarrow.schema([("id", pyarrow.string()), ("x0", pyarrow.float64())])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = bundle.write(folder + "/bundle", manifest, {"model.onnx": b"graph"})
    ...     batch.output_schema(folder + "/bundle", rows, keep=["id"])
    id: string
    prediction: float
    expert: int64
    gate_probability: float
    """
    options = _checked_options(keep)
    answers = _answer_fields(bundles.read(bundle))
    _check_output_names(options, answers)
    return pa.schema([*_kept_fields(input_schema, options), *answers])


def score_folder(
    bundle: str | os.PathLike[str],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    keep: Sequence[str] = (),
    ignore_extra: bool = False,
    by_position: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    threads: int = 1,
    **load_options: Any,
) -> int:
    """Answer for each row of a folder of Parquet files, in a folder of such files.

    Each file becomes a file of the same name in the same folder below `target`, row for row. It
    is written under a hidden name and gets its own when it is complete; when all are there, an
    empty file ``_SUCCESS`` is written. So a run that was killed is simply started again: files
    that are complete stay, all others are scored, and no row is lost or doubled. To start it
    again after files were added to `source`, or changed, scores these. One run at a time may
    write to a folder.

    Parameters
    ----------
    bundle : path
        Folder of the bundle.
    source : path
        Folder with ``.parquet`` files, in it and in the folders below. As everywhere with such
        folders, what starts with a dot or an underscore does not belong to it. The columns of a
        file are those in it: what only the name of a folder says (``year=2026``) is not one, and
        stands in the name of the output's folder in the same way.
    target : path
        Folder to write, which is made, with its parents, where it does not exist. It is new, empty
        or of a former run with the same bundle and columns.
    keep, ignore_extra, by_position, chunk_rows, threads
        As in :func:`score`.
    **load_options : dict
        Further options of :func:`skmode_deploy.load`.

    Returns
    -------
    int
        Number of rows in `target`.

    Raises
    ------
    BundleError
        If the bundle is refused.
    ValueError
        If rows are refused, which names file and row, or if the folders or an option are refused.
        The columns of all files are looked at before the first is scored.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.onnx import export
    >>> from skmode_deploy import batch
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> estimator = MoDEClassifier(n_experts=4, max_epochs=20, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(estimator, folder + "/bundle")
    ...     (Path(folder) / "rows").mkdir()
    ...     X[:100].to_parquet(folder + "/rows/first.parquet")
    ...     X[100:].to_parquet(folder + "/rows/second.parquet")
    ...     batch.score_folder(folder + "/bundle", folder + "/rows", folder + "/answers")
    ...     sorted(file.name for file in (Path(folder) / "answers").iterdir())
    150
    ['_SUCCESS', 'first.parquet', 'second.parquet']
    """
    options = _checked_options(keep, ignore_extra, by_position, chunk_rows)
    sha256 = manifest_sha256(bundle)
    predictor = _PREDICTORS.get(bundle, sha256, {"threads": threads, **load_options})
    answers = _answer_fields(predictor.manifest)
    _check_output_names(options, answers)
    folder = ScoredFolder(source, target, Job(sha256, options.keep, by_position))
    for name in folder.names:
        with _in_file(name), folder.open(name) as file:
            _select(file.schema_arrow.names, predictor.manifest, options)
    for name in folder.unfinished():
        with _in_file(name), folder.open(name) as file:
            schema = pa.schema([*_kept_fields(file.schema_arrow, options), *answers])
            batches = _read(file, predictor.manifest, options)
            folder.write(name, schema, _score(batches, predictor, options, answers))
    return folder.finish()


def _score(
    batches: Iterable[pa.RecordBatch],
    predictor: Predictor,
    options: Options,
    answers: Sequence[pa.Field],
) -> Iterator[pa.RecordBatch]:
    row = 1
    for batch in batches:
        if not isinstance(batch, pa.RecordBatch):
            raise TypeError(
                f"batches must be an iterable of pyarrow.RecordBatch, got {type(batch).__name__} "
                "in it: pass table.to_batches() of a table, and [batch] for a single batch."
            )
        selection = _select(batch.schema.names, predictor.manifest, options)
        _refuse_nested([batch.schema.field(i) for i in selection.model])
        for start in range(0, max(batch.num_rows, 1), options.chunk_rows):
            part = batch.slice(start, options.chunk_rows)
            yield _score_part(part, row, selection, predictor, answers)
            row += part.num_rows


def _score_part(
    part: pa.RecordBatch,
    row: int,
    selection: Selection,
    predictor: Predictor,
    answers: Sequence[pa.Field],
) -> pa.RecordBatch:
    names = [column.name for column in predictor.manifest.columns]
    # As a table, for a column of a batch is read in another way.
    rows = pa.Table.from_arrays([part.column(i) for i in selection.model], names=names)
    kept = [part.column(i) for i in selection.kept]
    try:
        answer = _batch.answer_block(predictor, Block(rows, kept, part.num_rows, row))
    except pa.ArrowException as error:  # a type that numpy has nothing for
        raise InputError(
            f"The rows from {row} on must hold numbers and strings, and reading them gave: "
            f"{as_sentence(error)} Convert the columns."
        ) from None
    columns = zip(_tables.output_columns(answer), answers, strict=True)
    return pa.RecordBatch.from_arrays(
        [*kept, *(_to_arrow(values, field.type) for values, field in columns)],
        schema=pa.schema([*(part.schema.field(i) for i in selection.kept), *answers]),
    )


def _refuse_nested(fields: Sequence[pa.Field]) -> None:
    nested = [f"{field.name!r} of type {field.type}" for field in fields if is_nested(field.type)]
    if nested:
        raise InputError(
            f"Columns of the model must hold numbers or strings, got {', '.join(nested[:10])}: "
            "take the values out of the lists, structs or maps."
        )


def _to_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if values.dtype.kind in "UO":  # Arrow takes no strings of fixed width
        return pa.array(values.tolist(), kind)
    return pa.array(values.astype(values.dtype.newbyteorder("="), copy=False), kind)


def _answer_fields(manifest: Manifest) -> list[pa.Field]:
    """Names and types of the answers."""
    names = _tables.output_names(manifest)
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


def _checked_options(
    keep: Sequence[str],
    ignore_extra: bool = False,
    by_position: bool = False,
    chunk_rows: int = CHUNK_ROWS,
) -> Options:
    if isinstance(keep, str) or not all(isinstance(name, str) for name in keep):
        raise ValueError(
            f"keep must be a sequence of column names, got {keep!r}: pass for example ['id']."
        )
    return Options(
        chunk_rows=check_at_least_one(chunk_rows, "chunk_rows"),
        keep=tuple(keep),
        ignore_extra=ignore_extra,
        by_position=by_position,
    )


def _check_output_names(options: Options, answers: Sequence[pa.Field]) -> None:
    names = [*options.keep, *(field.name for field in answers)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Columns of the output must have different names, got {list_names(twice)} more than "
            "once: name each column to keep once, and rename those that are called as the answers "
            "are."
        )


def _kept_fields(schema: pa.Schema | None, options: Options) -> list[pa.Field]:
    if schema is None and options.keep:
        raise ValueError(
            f"input_schema must say of which type the columns to keep are, got None with "
            f"{list_names(options.keep)} to keep: pass the schema of the rows."
        )
    if schema is not None:
        _check_kept(schema.names, options)
    return [schema.field(name) for name in options.keep] if schema is not None else []


def _check_kept(names: Sequence[str], options: Options) -> None:
    lost = [name for name in options.keep if name not in names]
    if lost:
        raise InputError(
            f"A column to keep must be one of the input's, got {list_names(lost)}: the input has "
            f"{list_names(names)}."
        )


def _select(names: Sequence[str], manifest: Manifest, options: Options) -> Selection:
    """Find the columns, with messages for who calls functions; `_tables` speaks of files."""
    _check_kept(names, options)
    expected = [column.name for column in manifest.columns]
    missing = [] if options.by_position else [name for name in expected if name not in names]
    if missing:
        fix = (
            "add them, with nulls where nothing is known."
            if manifest.from_table
            else "rename them, or pass by_position=True to take the columns in their order."
        )
        raise InputError(
            f"Rows must have the columns of the model, got none called {list_names(missing)}: {fix}"
        )
    selection = _tables.select(names, manifest, dataclasses.replace(options, ignore_extra=True))
    used = {*selection.model, *selection.kept}
    extra = [name for i, name in enumerate(names) if i not in used]
    if extra and not options.ignore_extra:
        raise InputError(
            f"Rows must have the columns of the model only, got {list_names(extra)} as well: pass "
            "ignore_extra=True to leave them out, or keep=[...] with the names of those to copy "
            "to the output."
        )
    return selection


def _read(file: Any, manifest: Manifest, options: Options) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file with the columns that are needed, in the order of the file."""
    names = file.schema_arrow.names
    selection = _select(names, manifest, options)
    wanted = [names[i] for i in sorted({*selection.model, *selection.kept})]
    row = 1
    try:
        for batch in file.iter_batches(options.chunk_rows, columns=wanted):
            yield batch
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"Row {row} must be readable, and reading it gave: {as_sentence(error)}"
        ) from None


@contextlib.contextmanager
def _in_file(name: str) -> Iterator[None]:
    """Name the file in what is said about its rows."""
    try:
        yield
    except InputError as error:
        raise InputError(f"In {name!r}: {error}") from None
