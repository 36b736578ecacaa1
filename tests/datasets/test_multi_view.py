import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skmode.datasets import make_multi_view


def make(**parameters):
    return make_multi_view(**{"random_state": 0, "return_details": True, **parameters})


@pytest.mark.parametrize("share", [0.0, 0.15, 1.0])
def test_the_share_of_single_view_rows_is_as_asked_for(share):
    _, _, details = make(n_samples=600, single_view_share=share)
    assert details.single_view.mean() == share
    assert (details.shown.sum(axis=1) == np.where(details.single_view, 1, 2)).all()


def test_classes_and_views_are_balanced_among_single_view_rows():
    _, y, details = make(n_samples=1000, n_classes=5, n_views=3, single_view_share=0.3)
    assert np.bincount(y).tolist() == [200] * 5
    single = details.single_view
    counts = np.zeros((5, 3))
    np.add.at(counts, (y[single], details.shown[single].argmax(axis=1)), 1)
    assert (counts == 20).all()


def test_rows_are_in_random_order():
    _, y, details = make(n_samples=1000)
    halves = details.single_view[:500].sum(), details.single_view[500:].sum()
    assert min(halves) > 10
    assert len(set(y[:8].tolist())) < 8


def test_without_noise_a_row_is_its_patterns_times_their_strengths():
    X, y, details = make(n_samples=50, n_classes=3, view_size=5, noise=0)
    for row in range(50):
        blocks = X[row, details.features]
        expected = details.strengths[row][..., None] * details.patterns
        np.testing.assert_allclose(blocks, expected)
        own = details.strengths[row, y[row]]
        assert ((own > 0) == details.shown[row]).all()
        assert ((own >= 1) & (own <= 2))[details.shown[row]].all()
    np.testing.assert_allclose(np.linalg.norm(details.patterns, axis=2), 1)


def test_each_row_shows_one_view_of_another_class_more_weakly():
    _, y, details = make(n_samples=400, distraction=0.4)
    strengths = details.strengths.copy()
    own = strengths[np.arange(400), y].max(axis=1)
    strengths[np.arange(400), y] = 0
    assert ((strengths > 0).sum(axis=(1, 2)) == 1).all()
    other = strengths.max(axis=(1, 2))
    assert (other >= 0.4).all()
    assert (other <= 0.8).all()
    assert (own > other).all()
    assert (make(distraction=0.0)[2].strengths > 0).sum(axis=(1, 2)).max() == 2


def test_noise_is_the_remainder_of_the_patterns():
    X, _, details = make(n_samples=500, noise=0.3)
    pattern_part = (details.strengths[..., None] * details.patterns).reshape(X.shape)
    assert (X - pattern_part).std() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("view", [0, 1])
def test_a_linear_probe_on_one_view_solves_exactly_the_rows_that_show_it(view):
    X, y, details = make(n_samples=3000, single_view_share=0.5, noise=0.05)
    columns = details.features[:, view].ravel()
    shows = details.shown[:, view]
    train = np.arange(len(y)) < 1500
    probe = LogisticRegression(C=100, max_iter=2000).fit(
        X[train & shows][:, columns], y[train & shows]
    )
    right = probe.predict(X[:, columns]) == y
    assert right[~train & shows].all()
    # What is left there is the distraction, which is never of the right class, or noise.
    assert right[~train & ~shows].mean() < 1 / 8


def test_views_partition_the_columns():
    X, _, details = make(n_samples=10, n_classes=3, n_views=4, view_size=2)
    assert details.features.shape == (3, 4, 2)
    assert sorted(details.features.ravel()) == list(range(X.shape[1]))


def test_the_same_seed_makes_the_same_rows_with_and_without_details():
    X, y, _ = make(n_samples=100)
    again, labels = make_multi_view(100, random_state=0)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, labels)
    other, _ = make_multi_view(100, random_state=1)
    assert not np.allclose(X, other)


def test_numpys_global_random_state_stays_untouched():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make(n_samples=20)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_samples", 0),
        ("n_classes", 1),
        ("n_views", 1),
        ("view_size", 0),
        ("single_view_share", 1.1),
        ("distraction", 1.0),
        ("noise", -0.1),
    ],
)
def test_invalid_parameters_raise(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of make_multi_view must be"):
        make_multi_view(**{name: value})
