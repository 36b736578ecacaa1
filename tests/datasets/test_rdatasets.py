import numpy as np
import pytest

from skmode.datasets import fetch_churn, fetch_rdatasets


@pytest.mark.slow
def test_churn(data_home):
    churn = fetch_churn(data_home=data_home)
    assert churn.data.shape == (7043, 19)
    assert churn.frame.shape == (7043, 20)
    assert churn.feature_names == list(churn.data.columns)
    assert "rownames" not in churn.frame
    assert "Watson" in churn.DESCR
    assert churn.target.value_counts().to_dict() == {"No": 5174, "Yes": 1869}
    assert churn.data["total_charges"].isna().sum() == churn.data.isna().sum().sum() == 11
    assert sorted(churn.data.dtypes.astype(str)) == 10 * ["category"] + 2 * ["float64"] + 7 * [
        "int64"
    ]


def test_return_X_y(data_home):
    X, y = fetch_churn(data_home=data_home, return_X_y=True)
    assert X.shape == (7043, 19)
    assert y.name == "churn"
    assert "churn" not in X


@pytest.mark.parametrize(
    ("package", "name", "target", "shape"),
    [
        ("modeldata", "concrete", "compressive_strength", (1030, 8)),
        ("modeldata", "credit_data", "Status", (4454, 13)),
        ("modeldata", "mlc_churn", "churn", (5000, 19)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("AER", "CPSSW8", "earnings", (61395, 4)),
                ("ggplot2", "diamonds", "price", (53940, 9)),
                ("modeldata", "ames", "Sale_Price", (2930, 73)),
                ("modeldata", "deliveries", "time_to_delivery", (10012, 30)),
                ("modeldata", "lending_club", "Class", (9857, 22)),
                ("modeldata", "stackoverflow", "Remote", (5594, 20)),
                # Of 336,776 flights, 9,430 were cancelled or diverted: no delay on arrival.
                ("nycflights13", "flights", "arr_delay", (327346, 18)),
            )
        ),
    ],
)
def test_shapes(data_home, package, name, target, shape):
    table = fetch_rdatasets(package, name, target=target, data_home=data_home)
    assert table.data.shape == shape
    assert not table.target.isna().any()
    assert np.array_equal(table.data.index, np.arange(shape[0]))


def test_unknown_table_names_its_neighbours(data_home):
    with pytest.raises(ValueError, match=r"got 'modeldata' and 'wa_chrun'.*modeldata/wa_churn"):
        fetch_rdatasets("modeldata", "wa_chrun", target="churn", data_home=data_home)


def test_unknown_target_names_the_columns(data_home):
    with pytest.raises(ValueError, match="got 'Churn': choose one of churn, female"):
        fetch_rdatasets("modeldata", "wa_churn", target="Churn", data_home=data_home)
