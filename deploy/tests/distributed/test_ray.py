import contextlib
import os
import signal

import pytest

ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
pytest.importorskip("ray.data", reason="needs the extra 'ray'")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow  # to start Ray takes its time

KEEP = ("id", "code")


@pytest.fixture
def example(load_example):
    return load_example("batch_ray")


@pytest.fixture
def cluster(load_example, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray writes to
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    start(
        num_cpus=3,
        object_store_memory=300 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


def start(**options):
    """Start Ray, which waits half a minute for its own servers: on busy processors too short."""
    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            return ray.init(**options)
        ray.shutdown()
    return ray.init(**options)


def actors():
    """Processes of the pool."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and "::MapWorker" in "".join(process.cmdline())
    ]


@pytest.mark.usefixtures("cluster")
def test_empty_files_and_other_columns(example, table_bundle, make_rows, check_answers, tmp_path):
    source, target = make_rows(3, 5), tmp_path / "answers"  # two files have no rows
    path, source, target = map(str, (table_bundle, source, target))
    example.score_parquet(path, source, target, KEEP, ignore_extra=True)
    check_answers(source, target)
    with pytest.raises(SystemExit, match="TARGET must not exist"):
        example.score_parquet(path, source, target, KEEP)
    # At the end, for as long as pytest keeps the exception, its actors keep their cores.
    with pytest.raises(Exception, match="got 'code' as well: pass ignore_extra=True"):
        example.score_parquet(path, source, target + "-1", ["id"])


def test_a_million_rows(table_bundle, make_rows, check_answers, run_example, tmp_path):
    source, target = make_rows(), tmp_path / "answers"
    run_example("batch_ray.py", table_bundle, source, target, RAY_USAGE_STATS_ENABLED="0")
    check_answers(source, target)


@pytest.mark.usefixtures("cluster")
def test_an_actor_is_killed(example, table_bundle, make_rows, check_answers, watch, tmp_path):
    source, target = make_rows(), tmp_path / "answers"
    killed = []

    def kill():
        pool = actors()
        killed.append(len(pool))
        os.kill(pool[0].pid, signal.SIGKILL)

    with watch(target, 5, kill) as killer:
        example.score_parquet(str(table_bundle), str(source), str(target), KEEP, task_rows=10_000)
    assert killed == [2]
    assert 5 <= killer.seen < 90  # of 100 files: it was in the middle
    check_answers(source, target)
