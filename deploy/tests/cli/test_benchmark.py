from skmode_deploy import load
from skmode_deploy.cli.benchmark import measure


def test_at_least_one_call_is_measured(table_bundle):
    speed = measure(load(table_bundle), n_rows=10, seconds=1e-9)
    assert (speed.rows, speed.calls) == (10, 1)
    assert speed.median_ms > 0
