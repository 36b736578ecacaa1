import os
import signal

import pytest

dask = pytest.importorskip("dask", reason="needs the extra 'dask'")
pytest.importorskip("dask.dataframe", reason="needs the extra 'dask'")
distributed = pytest.importorskip("distributed", reason="needs the extra 'dask'")

KEEP = ("id", "code")


@pytest.fixture
def example(load_example):
    return load_example("batch_dask")


@pytest.fixture
def client(load_example):
    with (
        # Or Dask would give up a killed worker that a busy machine takes long to start again.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def in_this_process():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.usefixtures("in_this_process")
def test_partitions(example, table_bundle, make_rows, check_answers, tmp_path):
    source, target = make_rows(1000, 7), tmp_path / "answers"
    example.score_parquet(str(table_bundle), str(source), str(target), KEEP)
    check_answers(source, target)


@pytest.mark.usefixtures("in_this_process")
def test_empty_partition_and_other_columns(
    example, table_bundle, make_rows, check_answers, tmp_path
):
    source, target = make_rows(3, 5), tmp_path / "answers"  # two files have no rows
    path, source, target = map(str, (table_bundle, source, target))
    with pytest.raises(ValueError, match="got 'code' as well: pass ignore_extra=True"):
        example.score_parquet(path, source, target + "-1", ["id"])
    example.score_parquet(path, source, target, KEEP, ignore_extra=True)
    check_answers(source, target)
    with pytest.raises(SystemExit, match="TARGET must not exist"):
        example.score_parquet(path, source, target, KEEP)


@pytest.mark.slow
def test_a_million_rows(table_bundle, make_rows, check_answers, run_example, tmp_path):
    source, target = make_rows(), tmp_path / "answers"
    run_example("batch_dask.py", table_bundle, source, target)
    check_answers(source, target)


@pytest.mark.slow
def test_each_worker_opens_the_bundle_once(example, client, table_bundle, make_rows, tmp_path):
    def count():
        from skmode_deploy.running import predictor_cache as _predictor_cache

        class Counted(_predictor_cache.Predictor):
            opened = 0

            def __init__(self, *arguments, **options):
                Counted.opened += 1
                super().__init__(*arguments, **options)

        _predictor_cache.Predictor = Counted

    def opened():
        from skmode_deploy.running import predictor_cache as _predictor_cache

        return _predictor_cache.Predictor.opened

    client.run(count)
    source, target = make_rows(200_000, 40), tmp_path / "answers"
    example.score_parquet(str(table_bundle), str(source), str(target), KEEP)
    assert list(client.run(opened).values()) == [1, 1]


@pytest.mark.slow
def test_a_worker_is_killed(
    example, client, table_bundle, make_rows, check_answers, watch, tmp_path
):
    source, target = make_rows(), tmp_path / "answers"
    before = client.run(os.getpid)
    with watch(target, 5, lambda: os.kill(min(before.values()), signal.SIGKILL)) as killer:
        example.score_parquet(str(table_bundle), str(source), str(target), KEEP)
    assert 5 <= killer.seen < 90  # of 100 files: it was in the middle
    check_answers(source, target)
    client.wait_for_workers(2)
    after = client.run(os.getpid)
    assert len({*after.values()} - {*before.values()}) == 1
