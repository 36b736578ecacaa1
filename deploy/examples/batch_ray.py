"""Score a folder of Parquet files with Ray Data.

    python batch_ray.py BUNDLE SOURCE TARGET --keep id

It starts Ray on this machine. With --address, it uses a cluster, whose nodes must have
skmode-deploy, and the bundle and both folders under the same paths. Ray does not keep the order of
rows: keep a column that identifies them.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import ray

from skmode_deploy import batch, bundle


class Scorer:
    """An actor of the pool. Ray pickles this class and the arguments of `__init__`."""

    def __init__(self, path: str, keep: Sequence[str], sha256: str) -> None:
        self.schema = functools.partial(batch.output_schema, path, keep=keep)
        self.score = functools.partial(batch.score, bundle=path, keep=keep, sha256=sha256)
        self.score([])  # opens the bundle, so that errors in it or in `keep` show here

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Score some rows."""
        return pa.Table.from_batches(self.score(rows.to_batches()), self.schema(rows.schema))


def score_parquet(
    path: str,
    source: str,
    target: str,
    keep: Sequence[str] = (),
    ignore_extra: bool = False,
    workers: int = 2,
    task_rows: int = 2**16,
) -> None:
    """Score the rows of `source` into `target`, with a pool of actors."""
    if Path(target).exists():
        raise SystemExit(f"TARGET must not exist, got {target!r}: remove it, or name another one.")
    model = [column.name for column in bundle.read(path).columns]
    rows = ray.data.read_parquet(source)
    if ignore_extra:
        rows = rows.select_columns(list(dict.fromkeys([*keep, *model])))
    # Ray would make one task of many small files, and leave all but one actor idle.
    predictions = rows.repartition(target_num_rows_per_block=task_rows).map_batches(
        Scorer,
        fn_constructor_args=(path, keep, batch.manifest_sha256(path)),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    predictions.write_parquet(target)
    Path(target, "_SUCCESS").touch()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Score a folder of Parquet files with Ray Data.")
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("source", help="folder of the rows")
    parser.add_argument("target", help="folder to write, which does not exist")
    parser.add_argument("--keep", action="append", default=[], help="column to copy, repeatable")
    parser.add_argument("--ignore-extra", action="store_true", help="ignore other columns")
    parser.add_argument("--workers", type=int, default=2, help="actors, each with one core")
    parser.add_argument("--task-rows", type=int, default=2**16, help="rows of one task")
    parser.add_argument("--address", help="address of a cluster that runs already")
    args = parser.parse_args(arguments)
    paths = [str(Path(path).absolute()) for path in (args.bundle, args.source, args.target)]
    # One core more than actors need, for reading and writing.
    ray.init(address=args.address, num_cpus=None if args.address else args.workers + 1)
    score_parquet(*paths, args.keep, args.ignore_extra, args.workers, args.task_rows)
    ray.shutdown()


if __name__ == "__main__":
    main()
