import datetime
import decimal
import os
import shutil
import sys

import pytest

pyspark = pytest.importorskip("pyspark", reason="needs the extra 'spark'")
if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
    pytest.skip(
        "Spark needs Java 17 or 21: install it, and set JAVA_HOME or PATH", allow_module_level=True
    )

from pyspark.sql import SparkSession, functions  # noqa: E402

pytestmark = pytest.mark.slow  # to start Spark takes its time

LOCAL = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


@pytest.fixture(scope="module")
def spark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("OMP_NUM_THREADS", "1")
        builder = SparkSession.builder
        for name, value in LOCAL.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        yield session
        session.stop()


def test_a_million_rows(table_bundle, make_rows, check_answers, run_example, tmp_path):
    source, target = make_rows(), tmp_path / "answers"
    options = " ".join(f"--conf {name}={value}" for name, value in LOCAL.items())
    environment = {"PYSPARK_SUBMIT_ARGS": f"{options} pyspark-shell"}
    run_example("batch_spark.py", table_bundle, source, target, **environment)
    check_answers(source, target)


def test_types(spark, load_example, table_bundle):
    day, when = datetime.date(2026, 2, 3), datetime.datetime(2026, 2, 3, 4, 5)
    rows = spark.createDataFrame(
        [(day, when, ["x"], decimal.Decimal("1.50"), "Köln", 1), (*[None] * 5, 2)],
        "day date, `at.time` timestamp, tags array<string>, age decimal(9,2), city string, "
        "plan int",
    )
    score_rows = load_example("batch_spark").score_rows
    path, keep = str(table_bundle), ("day", "at.time", "tags")
    answers = score_rows(rows, path, keep).orderBy("prediction").collect()
    assert [tuple(row)[:4] for row in answers] == [(None, None, None, 10), (day, when, ["x"], 40)]
    assert [row.expert for row in answers] == [1, 0]
    with pytest.raises(Exception, match="got 'day', 'at.time' as well: pass ignore_extra=True"):
        score_rows(rows, path, ["tags"]).collect()
    (first, _) = score_rows(rows, path, ["day"], ignore_extra=True).orderBy("expert").collect()
    assert first.day == day


def test_each_process_opens_the_bundle_once(spark, table_bundle, make_rows):
    path = str(table_bundle)

    def count(batches):
        import os

        import pyarrow

        from skmode_deploy import batch
        from skmode_deploy.running import predictor_cache as _predictor_cache

        if not hasattr(_predictor_cache.Predictor, "opened"):

            class Counted(_predictor_cache.Predictor):
                opened = 0

                def __init__(self, *arguments, **options):
                    Counted.opened += 1
                    super().__init__(*arguments, **options)

            _predictor_cache.Predictor = Counted
        n_rows = sum(answer.num_rows for answer in batch.score(batches, path, ignore_extra=True))
        counts = [[os.getpid()], [_predictor_cache.Predictor.opened], [n_rows]]
        yield pyarrow.RecordBatch.from_arrays(
            [pyarrow.array(value) for value in counts], names=["pid", "opened", "n_rows"]
        )

    rows = spark.read.parquet(str(make_rows(50_000, 8))).repartition(8)
    counts = rows.mapInArrow(count, "pid long, opened long, n_rows long")
    found = counts.groupBy().agg(
        functions.sum("n_rows"), functions.max("opened"), functions.count("pid")
    )
    n_rows, opened, n_partitions = found.first()
    assert (n_rows, opened, n_partitions) == (50_000, 1, 8)
    assert counts.select("pid").distinct().count() <= 2
