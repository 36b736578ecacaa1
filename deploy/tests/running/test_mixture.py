import numpy as np
from numpy.testing import assert_allclose

from skmode_deploy import bundle, load
from skmode_deploy.running.mixture import MixturePredictor

X = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]], np.float32)


def test_equal_experts_mix_to_their_prediction(make_regressor):
    folder = make_regressor(n_outputs=2)
    mixed = MixturePredictor(folder, bundle.read(folder)).predict(X)
    assert mixed.dtype == np.float32
    assert_allclose(mixed, load(folder).predict(X), rtol=1e-6)


def test_the_gate_weighs_the_experts(table_bundle):
    mixture = MixturePredictor(table_bundle, bundle.read(table_bundle))

    class Constant:
        """An expert that is always certain of one class."""

        def __init__(self, index):
            self.index = index

        def run(self, outputs, feeds):
            return [np.repeat(np.eye(4)[[self.index]], len(feeds["hidden"]), axis=0)]

    mixture._experts = [Constant(0), Constant(3)]
    rows = {"age": [30.0, None], "city": ["Bern", "Bern"], "plan": [1.0, 1.0]}
    assert_allclose(mixture.predict(rows), [[0.75, 0, 0, 0.25], [0.25, 0, 0, 0.75]])
