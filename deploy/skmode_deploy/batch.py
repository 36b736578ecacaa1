"""Score large data: Arrow record batches, or a folder of Parquet files.

:func:`score` takes an iterator of record batches and returns one, as needed for functions that
distribute rows over processes: ``map_partitions`` of Dask, ``map_batches`` of Ray Data,
``mapInArrow`` of Spark. Only the path of the bundle is sent to the workers. Each process opens the
bundle when it first needs it, and keeps it open. :func:`score_folder` scores a folder of Parquet
files in one process.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

try:
    import pyarrow as pa
except ImportError:
    raise ImportError(
        "skmode_deploy.batch needs pyarrow, which is not installed: install the extra 'parquet' "
        "of skmode-deploy (in a checkout: pip install './deploy[parquet]')."
    ) from None

from skmode_deploy import bundle as bundles
from skmode_deploy.bundle.reading import manifest_sha256
from skmode_deploy.running.predictor_cache import PredictorCache
from skmode_deploy.running.tables.chunks import CHUNK_ROWS
from skmode_deploy.running.tables.parquet_folders import ScoredFolder, ScoringJob
from skmode_deploy.running.tables.record_batches import (
    check_options,
    check_output_names,
    kept_fields,
    naming_file,
    prediction_fields,
    read_batches,
    score_batches,
    select_batch_columns,
)

__all__ = ["manifest_sha256", "output_schema", "score", "score_folder"]

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
    """Predict for each row of some record batches.

    The output has one row for each input row, in the same order. At most `chunk_rows` rows are
    computed at a time; longer batches are returned in several parts.

    A process opens a bundle only once, even if it calls this function often or from several
    threads. It opens the bundle again only if the bundle was replaced, or for other options. So
    ``functools.partial(score, bundle=path)`` is cheap to pickle and to send to another process: it
    does not contain the model.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        Rows, as :meth:`skmode_deploy.Predictor.predict_full` takes them: columns go by name, in any
        order. Strings may be of any string type, or dictionary encoded; numbers may be integers,
        floats, decimals or booleans; nulls are missing values.
    bundle : path
        Folder of the bundle.
    keep : sequence of str, default=()
        Names of the columns to copy to the output, before the predictions. They keep their types.
    ignore_extra : bool, default=False
        Whether to ignore columns that the model does not use. Otherwise they are an error.
    by_position : bool, default=False
        Whether to ignore names: the model's columns are then the first ones not in `keep`.
    chunk_rows : int, default=8192
        Largest number of rows that are computed at a time.
    sha256 : str or None, default=None
        Required hash of the bundle, as :func:`manifest_sha256` returns it. Compute it once before
        rows are distributed: then the same model predicts all rows, or a worker with another copy
        of the bundle raises an error. None accepts any bundle.
    threads : int, default=1
        Number of threads for one operation. With one worker per core, 1 is best.
    **load_options : dict
        Further options of :func:`skmode_deploy.load`, such as ``strategy="split"``.

    Returns
    -------
    iterator of pyarrow.RecordBatch
        The columns of `keep`, then ``prediction`` (``prediction_0`` and so on for several values
        per row), ``probability_<class>`` of a classifier, ``expert`` and ``gate_probability``.
        :func:`output_schema` returns their names and types beforehand.

    Raises
    ------
    BundleError
        If the bundle is invalid, or does not have the hash `sha256`.
    ValueError
        If an option is invalid. The iterator raises it for invalid rows; the message names the
        first of them, counted from 1, and the reason.
    TypeError
        If `bundle` is not a path, or if an option is unknown. The iterator raises it for a batch
        that is not a record batch.

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
    ...     predictions = list(batch.score(rows.to_batches(50), folder, keep=["flower"]))
    >>> [part.num_rows for part in predictions]
    [50, 50, 50]
    >>> predictions[0].schema.names[:3]
    ['flower', 'prediction', 'probability_0']
    >>> predictions[0].slice(0, 2).select(["flower", "prediction"]).to_pylist()
    [{'flower': 0, 'prediction': 0}, {'flower': 1, 'prediction': 0}]
    """
    options = check_options(keep, ignore_extra, by_position, chunk_rows)
    predictor = _PREDICTORS.get(bundle, sha256, {"threads": threads, **load_options})
    fields = prediction_fields(predictor.manifest)
    check_output_names(options, fields)
    return score_batches(batches, predictor, options, fields)


def output_schema(
    bundle: str | os.PathLike[str],
    input_schema: pa.Schema | None = None,
    *,
    keep: Sequence[str] = (),
) -> pa.Schema:
    """Return the columns of the output of :func:`score`, without opening the bundle.

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
        Names and types of the columns that :func:`score` returns, without metadata.

    Raises
    ------
    BundleError
        If the manifest is invalid.
    ValueError
        If a column of `keep` is not in `input_schema`, or has the name of another output column.

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
    options = check_options(keep)
    fields = prediction_fields(bundles.read(bundle))
    check_output_names(options, fields)
    return pa.schema([*kept_fields(input_schema, options), *fields])


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
    """Predict each row of a folder of Parquet files, and write the same folder structure.

    Each file of `source` becomes a file with the same relative path and number of rows in `target`.
    It is written under a hidden name and renamed when it is complete. At the end an empty file
    ``_SUCCESS`` is written. A run that was killed can be started again: it keeps the complete
    files and scores the others, so no row is lost or doubled. If files of `source` were added or
    changed, the next run scores them. Only one run at a time may write to a folder.

    Parameters
    ----------
    bundle : path
        Folder of the bundle.
    source : path
        Folder with ``.parquet`` files, in itself and in its subfolders. As usual, names that start
        with a dot or an underscore are ignored. A folder name such as ``year=2026`` does not
        become a column; the output has a folder of the same name.
    target : path
        Folder to write. It is created, with its parents, if it does not exist. It must be new,
        empty, or from a run with the same bundle and columns.
    keep : sequence of str, default=()
        Names of the columns to copy to the output, before the predictions.
    ignore_extra : bool, default=False
        Whether to ignore columns that the model does not use.
    by_position : bool, default=False
        Whether to ignore names: the model's columns are then the first ones not in `keep`.
    chunk_rows : int, default=8192
        Largest number of rows that are computed at a time.
    threads : int, default=1
        Number of threads for one operation.
    **load_options : dict
        Further options of :func:`skmode_deploy.load`.

    Returns
    -------
    int
        Number of rows in `target`.

    Raises
    ------
    BundleError
        If the bundle is invalid.
    ValueError
        If a row, a folder or an option is invalid. For rows, the message names file and row. The
        columns of all files are checked before the first file is scored.

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
    ...     batch.score_folder(folder + "/bundle", folder + "/rows", folder + "/predictions")
    ...     sorted(file.name for file in (Path(folder) / "predictions").iterdir())
    150
    ['_SUCCESS', 'first.parquet', 'second.parquet']
    """
    options = check_options(keep, ignore_extra, by_position, chunk_rows)
    sha256 = manifest_sha256(bundle)
    predictor = _PREDICTORS.get(bundle, sha256, {"threads": threads, **load_options})
    fields = prediction_fields(predictor.manifest)
    check_output_names(options, fields)
    folder = ScoredFolder(source, target, ScoringJob(sha256, options.keep, by_position))
    for name in folder.names:
        with naming_file(name), folder.open(name) as file:
            select_batch_columns(file.schema_arrow.names, predictor.manifest, options)
    for name in folder.unfinished():
        with naming_file(name), folder.open(name) as file:
            schema = pa.schema([*kept_fields(file.schema_arrow, options), *fields])
            batches = read_batches(file, predictor.manifest, options)
            folder.write(name, schema, score_batches(batches, predictor, options, fields))
    return folder.finish()
