"""Classes that are missing among the rows that a teacher of a fold is fitted on."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from skmode import MoDEClassifier
from skmode._estimators.rows.folds import of_unseen_classes
from skmode._training.net import MixtureNet

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning"),
    pytest.mark.filterwarnings("ignore:Each class should have a row"),
]

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 2,
    "batch_size": 60,
    "random_state": 0,
    "teacher": LogisticRegression(),
}
X, y = make_classification(300, 5, n_informative=4, n_redundant=0, flip_y=0.2, random_state=0)
RARE = np.where(np.arange(300) == 7, 2, y)


def test_which_rows_are_of_unseen_classes():
    folds = [(np.arange(3), np.arange(3, 6)), (np.arange(3, 6), np.arange(3))]
    found = of_unseen_classes(np.array(list("aababc")), folds)
    assert_array_equal(found, [False, False, False, False, False, True])


def test_a_rare_class_does_not_have_a_good_teacher_refused(recwarn):
    classifier = MoDEClassifier(**QUICK, teacher_cv=3).fit(X, RARE)
    assert classifier.teacher_names_ == ["LogisticRegression"]
    assert max(classifier.out_of_fold_loss_.values()) < 1  # without the row, whose loss is 87
    assert not [each for each in recwarn if "teaches only if it helps" in str(each.message)]


def test_its_row_is_taught_by_the_target_alone(monkeypatch):
    seen = []
    step = MixtureNet.train_step

    def train_step(net, batch, **kwargs):
        seen.append(batch)
        return step(net, batch, **kwargs)

    monkeypatch.setattr(MixtureNet, "train_step", train_step)
    MoDEClassifier(**QUICK, teacher_weight=0.9, synthetic_rows=0).fit(X, RARE)
    for batch in seen:
        expected = np.where(batch.target == 2, 0.0, 0.9)
        np.testing.assert_allclose(batch.soft_weight, expected, rtol=1e-6)
    assert any((batch.target == 2).any() for batch in seen)


def test_folds_of_sorted_rows():
    labels = np.arange(300) // 75
    with pytest.raises(ValueError, match=r"teacher_cv must give folds whose.*KFold\(n_splits=4"):
        MoDEClassifier(**QUICK, early_stopping=False, teacher_cv=KFold(4)).fit(X, labels)
