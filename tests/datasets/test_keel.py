import pytest

from skmode.datasets import fetch_keel


@pytest.mark.parametrize(
    ("name", "shape", "n_categorical", "n_classes"),
    [
        ("chess", (3196, 36), 36, 2),
        ("german", (1000, 20), 13, 2),
        ("titanic", (2201, 3), 0, 2),
        ("vehicle", (846, 18), 0, 4),
        ("vowel", (990, 13), 0, 11),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("letter", (20000, 16), 0, 26),
                ("magic", (19020, 10), 0, 2),
                ("marketing", (6876, 13), 0, 9),
                ("mushroom", (5644, 22), 22, 2),
                ("optdigits", (5620, 64), 0, 10),
                ("penbased", (10992, 16), 0, 10),
                ("phoneme", (5404, 5), 0, 2),
                ("satimage", (6435, 36), 0, 6),
                ("segment", (2310, 19), 0, 7),
                ("spambase", (4597, 57), 0, 2),
                ("splice", (3190, 60), 60, 3),
                ("texture", (5500, 40), 0, 11),
                ("twonorm", (7400, 20), 0, 2),
            )
        ),
    ],
)
def test_shapes(data_home, name, shape, n_categorical, n_classes):
    table = fetch_keel(name, data_home=data_home)
    assert table.data.shape == shape
    assert (table.data.dtypes == "category").sum() == n_categorical
    assert table.target.nunique() == n_classes
    assert table.target.dtype in ("category", "int64")
    assert not table.frame.isna().any(axis=None)


def test_labels_carry_no_spaces(data_home):
    _, y = fetch_keel("vehicle", data_home=data_home, return_X_y=True)
    assert list(y.cat.categories) == ["bus", "opel", "saab", "van"]


def test_unknown_name_lists_the_known(data_home):
    with pytest.raises(ValueError, match=r"one of australian, .*wisconsin, got 'adult'"):
        fetch_keel("adult", data_home=data_home)
