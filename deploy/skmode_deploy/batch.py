"""Answers for rows where they are: from Arrow record batches to Arrow record batches.

:func:`score` is a function of an iterator that gives an iterator, and so fits into whatever
distributes rows over processes: ``map_partitions`` of Dask, ``map_batches`` of Ray Data,
``mapInArrow`` of Spark. What travels to the workers is the path of the bundle; each process opens
it once, when it first needs it, and keeps it. :func:`score_folder` does the same in one process
with a folder of Parquet files.
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
from skmode_deploy.tables.chunks import CHUNK_ROWS
from skmode_deploy.tables.parquet_folders import ScoredFolder, ScoringJob
from skmode_deploy.tables.record_batches import (
    answer_fields,
    check_options,
    check_output_names,
    kept_fields,
    naming_file,
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
    options = check_options(keep, ignore_extra, by_position, chunk_rows)
    predictor = _PREDICTORS.get(bundle, sha256, {"threads": threads, **load_options})
    answers = answer_fields(predictor.manifest)
    check_output_names(options, answers)
    return score_batches(batches, predictor, options, answers)


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
    options = check_options(keep)
    answers = answer_fields(bundles.read(bundle))
    check_output_names(options, answers)
    return pa.schema([*kept_fields(input_schema, options), *answers])


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
    options = check_options(keep, ignore_extra, by_position, chunk_rows)
    sha256 = manifest_sha256(bundle)
    predictor = _PREDICTORS.get(bundle, sha256, {"threads": threads, **load_options})
    answers = answer_fields(predictor.manifest)
    check_output_names(options, answers)
    folder = ScoredFolder(source, target, ScoringJob(sha256, options.keep, by_position))
    for name in folder.names:
        with naming_file(name), folder.open(name) as file:
            select_batch_columns(file.schema_arrow.names, predictor.manifest, options)
    for name in folder.unfinished():
        with naming_file(name), folder.open(name) as file:
            schema = pa.schema([*kept_fields(file.schema_arrow, options), *answers])
            batches = read_batches(file, predictor.manifest, options)
            folder.write(name, schema, score_batches(batches, predictor, options, answers))
    return folder.finish()
