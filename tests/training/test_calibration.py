"""Temperature scaling on the validation rows."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, logsumexp
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from skorch.callbacks import Callback

from skmode import MoDEClassifier, MoDERegressor
from skmode._training.callbacks import Watch
from skmode._training.finish.calibration import fit_temperature
from skmode._training.rows import Rows

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

MIXINGS = pytest.mark.parametrize("mixing", ["representation", "likelihood", "expected"])
INFERENCES = pytest.mark.parametrize(
    "inference", ["mixture", pytest.param("top_expert", marks=pytest.mark.slow)]
)
QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "max_epochs": 6,
    "learning_rate": 0.003,
    "batch_size": 160,
    "learning_rate_schedule": "constant",
    "early_stopping": True,
    "refit_fraction": 0.0,
    "random_state": 0,
}
X, y = make_classification(
    600, 8, n_informative=6, n_classes=3, class_sep=2, flip_y=0.01, random_state=0
)


class Held(Callback):
    """Keep the validation rows."""

    def on_train_end(self, net, **kwargs):
        self.rows = dict(net.callbacks_)["watch"].rows


def fit(**options):
    held = Held()
    return MoDEClassifier(**QUICK | {"callbacks": [held]} | options).fit(X, y), held.rows


def held_out_loss(estimator, rows):
    """Sum over the validation rows, as the network sees them."""
    with torch.inference_mode():
        module = estimator.net_.module_
        if estimator.inference == "top_expert":
            prediction = module.predict_top_expert(*rows.inputs)[0]
        else:
            prediction = module(*rows.inputs).prediction
        return module.task_loss(prediction, rows.target).double().sum().item()


@MIXINGS
@INFERENCES
def test_lowers_the_validation_loss_after_short_training(mixing, inference):
    options = {"mixing": mixing, "inference": inference}
    plain, rows = fit(calibration=None, **options)
    calibrated, _ = fit(**options)
    assert plain.temperature_ == 1
    assert calibrated.temperature_ < 0.97
    before, after = held_out_loss(plain, rows), held_out_loss(calibrated, rows)
    assert after + 0.5 * (np.log(calibrated.temperature_) / 0.2) ** 2 < before


@MIXINGS
@INFERENCES
def test_temperature_is_optimal_for_rows_and_prior(mixing, inference):
    calibrated, rows = fit(mixing=mixing, inference=inference)
    temperature = calibrated.temperature_
    head = calibrated.net_.module_.head
    costs = []
    for log_temperature in np.log(temperature) + np.array([-0.02, 0, 0.02]):
        with torch.no_grad():
            factor = temperature / np.exp(log_temperature)
            head.weight.mul_(factor), head.bias.mul_(factor)
            costs.append(held_out_loss(calibrated, rows) + 0.5 * (log_temperature / 0.2) ** 2)
            head.weight.div_(factor), head.bias.div_(factor)
    assert costs[1] == min(costs)


def test_divides_the_logits_of_every_expert():
    plain, rows = fit(calibration=None)
    calibrated, _ = fit()
    with torch.inference_mode():
        before, after = (
            each.net_.module_(*rows.inputs, all_experts=True) for each in (plain, calibrated)
        )
    experts = before.expert_outputs.numpy() / calibrated.temperature_
    expected = log_softmax(experts, axis=2)
    assert_allclose(after.expert_outputs, expected, rtol=1e-4, atol=1e-5)
    mixed = logsumexp(expected + np.log(before.gate_probabilities.numpy())[:, :, None], axis=1)
    assert_allclose(after.prediction, mixed, rtol=1e-4, atol=1e-5)


def test_lowers_the_loss_on_unseen_rows():
    losses = {}
    for calibration in ("temperature", None):
        options = QUICK | {"refit_fraction": 0.3, "calibration": calibration}
        estimator = MoDEClassifier(**options).fit(X[:400], y[:400])
        losses[calibration] = log_loss(y[400:], estimator.predict_proba(X[400:]))
    assert losses["temperature"] < 0.97 * losses[None]


def test_few_rows_keep_the_temperature_near_one():
    few, _ = fit(validation_fraction=6 / 600)
    many, _ = fit(validation_fraction=0.5)
    assert abs(np.log(few.temperature_)) < 0.5 * abs(np.log(many.temperature_))


def test_does_not_change_predicted_classes_of_one_expert():
    plain, _ = fit(n_experts=1, calibration=None)
    calibrated, _ = fit(n_experts=1)
    assert calibrated.temperature_ != 1
    assert_array_equal(plain.predict(X), calibrated.predict(X))


def test_rows_count_by_their_weight():
    estimator, rows = fit(calibration=None)
    module = estimator.net_.module_
    half = rows.select(slice(0, len(rows) // 2))
    watch = Watch(half, held_out=True, monitor_top_expert=False)
    count = torch.arange(len(half)) % 3 + 1
    repeated = half.select(torch.arange(len(half)).repeat_interleave(count))
    weighted = Rows(half.inputs, half.target, count.float())
    temperatures = [
        fit_temperature(
            module, Watch(part, True, False).evaluate(module), part, top_expert=top_expert
        )
        for top_expert in (False, True)
        for part in (weighted, repeated)
    ]
    plain = fit_temperature(module, watch.evaluate(module), half, top_expert=False)
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-3)
    assert temperatures[2] == pytest.approx(temperatures[3], rel=1e-3)
    assert abs(temperatures[0] - plain) > 1e-3


def test_refit_continues_from_uncalibrated_weights():
    plain, _ = fit(calibration=None, refit_fraction=0.5)
    calibrated, _ = fit(refit_fraction=0.5)
    assert plain.refit_n_iter_ == calibrated.refit_n_iter_ > 0
    expected = dict(plain.net_.module_.named_parameters())
    for name, parameter in calibrated.net_.module_.named_parameters():
        divisor = calibrated.temperature_ if name.startswith("head.") else 1
        assert torch.equal(parameter, expected[name] / divisor)


def test_no_calibration_without_validation_rows():
    for options in ({"early_stopping": False}, {"calibration": None}):
        assert fit(**options)[0].temperature_ == 1
    estimator, _ = fit()
    assert estimator.temperature_ != 1
    assert estimator.partial_fit(X, y).temperature_ == 1


def test_warm_start_continues_and_calibrates_again():
    estimator, _ = fit(warm_start=True)
    first = estimator.temperature_
    losses = [log_loss(y, estimator.predict_proba(X))]
    losses.append(log_loss(y, estimator.fit(X, y).predict_proba(X)))
    assert estimator.temperature_ not in (first, 1)
    assert losses[1] < losses[0]


def test_a_regressor_has_no_temperature():
    estimator = MoDERegressor(**QUICK).fit(X, y.astype(float))
    assert not hasattr(estimator, "temperature_")
    assert "calibration" not in estimator.get_params()


def test_unknown_method_raises():
    with pytest.raises(ValueError, match="'calibration' parameter of MoDEClassifier must be"):
        MoDEClassifier(calibration="isotonic").fit(X, y)
