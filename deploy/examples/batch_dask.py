"""Score a folder of Parquet files with Dask.

    python batch_dask.py BUNDLE SOURCE TARGET --keep id

It starts two worker processes on this machine. With --scheduler, it uses a cluster, whose workers
must have skmode-deploy, and the bundle and both folders under the same paths.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
from dask.distributed import Client, LocalCluster

from skmode_deploy import batch, bundle


def score_partition(
    rows: pd.DataFrame, path: str, schema: pa.Schema, keep: Sequence[str], sha256: str
) -> pd.DataFrame:
    """Score one partition. Dask pickles this function and its arguments, not the model."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    predictions = batch.score(table.to_batches(), path, keep=keep, sha256=sha256)
    return pa.Table.from_batches(predictions, schema).to_pandas(types_mapper=pd.ArrowDtype)


def score_parquet(
    path: str, source: str, target: str, keep: Sequence[str] = (), ignore_extra: bool = False
) -> None:
    """Score the rows of `source` into `target`, with the workers of the current client."""
    if Path(target).exists():
        raise SystemExit(f"TARGET must not exist, got {target!r}: remove it, or name another one.")
    model = [column.name for column in bundle.read(path).columns]
    wanted = list(dict.fromkeys([*keep, *model])) if ignore_extra else None
    # With Arrow's types: pandas' own turn integers into floats if some are missing.
    rows = dd.read_parquet(source, columns=wanted, index=False, dtype_backend="pyarrow")
    input_schema = pa.Schema.from_pandas(rows._meta, preserve_index=False)
    schema = batch.output_schema(path, input_schema, keep=keep)
    predictions = rows.map_partitions(
        score_partition,
        path=path,
        schema=schema,
        keep=keep,
        sha256=batch.manifest_sha256(path),
        meta=schema.empty_table().to_pandas(types_mapper=pd.ArrowDtype),
    )
    predictions.to_parquet(target, write_index=False, schema=schema)
    Path(target, "_SUCCESS").touch()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Score a folder of Parquet files with Dask.")
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("source", help="folder of the rows")
    parser.add_argument("target", help="folder to write, which does not exist")
    parser.add_argument("--keep", action="append", default=[], help="column to copy, repeatable")
    parser.add_argument("--ignore-extra", action="store_true", help="ignore other columns")
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--scheduler", help="address of a cluster that runs already")
    args = parser.parse_args(arguments)
    paths = [str(Path(path).absolute()) for path in (args.bundle, args.source, args.target)]
    if args.scheduler:
        cluster = args.scheduler
    else:
        cluster = LocalCluster(n_workers=args.workers, threads_per_worker=1, dashboard_address=None)
    with Client(cluster):
        score_parquet(*paths, args.keep, args.ignore_extra)
    if not args.scheduler:
        cluster.close()


if __name__ == "__main__":
    main()
