import os
import signal
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
pytest.importorskip("ray.data", reason="needs the extra 'ray'")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow  # to start Ray takes its time

EXAMPLES = Path(__file__).parents[2] / "examples"
KEEP = ("id", "code")


@pytest.fixture
def example(load_example):
    return load_example("batch_ray")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One for all tests: Ray does not always start twice in a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # where Ray writes to
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(EXAMPLES), prepend=os.pathsep)
        ray.init(
            num_cpus=3,
            object_store_memory=300 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield
        ray.shutdown()


def actors():
    """Processes of the pool."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and "::MapWorker" in "".join(process.cmdline())
    ]


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


@pytest.mark.usefixtures("cluster")
def test_empty_files_and_other_columns(example, table_bundle, make_rows, check_answers, tmp_path):
    source, target = make_rows(3, 5), tmp_path / "answers"  # two files have no rows
    path, source, target = map(str, (table_bundle, source, target))
    example.score_parquet(path, source, target, KEEP, ignore_extra=True)
    check_answers(source, target)
    with pytest.raises(SystemExit, match="TARGET must not exist"):
        example.score_parquet(path, source, target, KEEP)
    # In the last test: for as long as pytest keeps the exception, its actors keep their cores.
    with pytest.raises(Exception, match="got 'code' as well: pass ignore_extra=True"):
        example.score_parquet(path, source, target + "-1", ["id"])
