import dataclasses

from skmode_deploy import bundle, load
from skmode_deploy.cli.benchmark import default_rows, measure


def test_at_least_one_call_is_measured(table_bundle):
    speed = measure(load(table_bundle), n_rows=10, seconds=1e-9)
    assert (speed.rows, speed.calls) == (10, 1)
    assert speed.median_ms > 0


def test_images(make_image_bundle):
    """As many images as fit in memory."""
    predictor = load(make_image_bundle(dtype="float32"))
    assert measure(predictor, n_rows=10, seconds=1e-9).rows == 10
    assert default_rows(predictor.manifest) == [1, 1024, 16384]
    image = bundle.Image(1024, 1024, 4, "hwc", "uint8")
    assert default_rows(dataclasses.replace(predictor.manifest, image=image)) == [1, 16]
