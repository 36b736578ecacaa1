"""Score a folder of Parquet files with Spark.

    python batch_spark.py BUNDLE SOURCE TARGET --keep id
    spark-submit batch_spark.py BUNDLE SOURCE TARGET --keep id

Without spark-submit it runs on this machine. On a cluster, all nodes must have skmode-deploy, and
the bundle under the same path. SOURCE and TARGET may be anything that Spark reads and writes, such
as folders on HDFS or S3.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from skmode_deploy import batch, bundle


def score_rows(
    rows: DataFrame, path: str, keep: Sequence[str] = (), ignore_extra: bool = False
) -> DataFrame:
    """Score each row. Spark pickles the path of the bundle and names of columns, not the model."""
    if ignore_extra:
        model = [column.name for column in bundle.read(path).columns]
        wanted = dict.fromkeys([*keep, *model])
        rows = rows.select([f"`{name.replace('`', '``')}`" for name in wanted])
    kept = [rows.schema[name] for name in keep]
    schema = StructType([*kept, *from_arrow_schema(batch.output_schema(path)).fields])
    sha256 = batch.manifest_sha256(path)
    names = rows.columns

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        named = (part.rename_columns(names) for part in batches)
        return batch.score(named, path, keep=keep, sha256=sha256)

    # mapInArrow takes no names with dots.
    return rows.toDF(*(f"column{i}" for i in range(len(names)))).mapInArrow(score, schema)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Score a folder of Parquet files with Spark.")
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("source", help="folder of the rows")
    parser.add_argument("target", help="folder to write, which does not exist")
    parser.add_argument("--keep", action="append", default=[], help="column to copy, repeatable")
    parser.add_argument("--ignore-extra", action="store_true", help="ignore other columns")
    args = parser.parse_args(arguments)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # spark-submit sets it
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("skmode-deploy").getOrCreate()
    path = os.path.abspath(args.bundle)
    rows = spark.read.parquet(args.source)
    score_rows(rows, path, args.keep, args.ignore_extra).write.parquet(args.target)
    spark.stop()


if __name__ == "__main__":
    main()
