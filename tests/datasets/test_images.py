import numpy as np
import pytest

from skmode.datasets import fetch_fashion_mnist, fetch_mnist_5k


@pytest.mark.slow
def test_digits(data_home):
    digits = fetch_mnist_5k(data_home=data_home)
    assert digits.images.shape == (5000, 28, 28)
    assert digits.images.dtype == np.uint8
    assert digits.images.max() == 255
    assert np.bincount(digits.target).tolist() == [500] * 10


@pytest.mark.slow
def test_clothes(data_home):
    images, target = fetch_fashion_mnist(subset="all", data_home=data_home, return_X_y=True)
    assert images.shape == (70000, 28, 28)
    assert np.bincount(target).tolist() == [7000] * 10
    test = fetch_fashion_mnist(subset="test", data_home=data_home)
    np.testing.assert_array_equal(test.images, images[60000:])
    assert test.target_names[test.target[0]] == "ankle boot"


def test_an_unknown_subset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="subset must be one of train, test, all"):
        fetch_fashion_mnist(subset="valid", data_home=tmp_path)
