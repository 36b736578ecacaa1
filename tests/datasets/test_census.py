import pytest

from skmode.datasets import fetch_census_income


@pytest.mark.slow
def test_train_and_test(data_home):
    rows = {"train": 199_523, "test": 99_762, "all": 299_285}
    tables = {subset: fetch_census_income(subset=subset, data_home=data_home) for subset in rows}
    for subset, table in tables.items():
        assert table.data.shape == (rows[subset], 40)
        assert "instance_weight" not in table.data
        assert table.sample_weight.shape == (rows[subset],)
        assert (table.data.dtypes == "category").sum() == 32
        assert list(table.target.cat.categories) == ["-50000", "50000+"]
    assert (tables["train"].target == "50000+").sum() == 12_382
    assert tables["train"].data["hispanic_origin"].isna().sum() == 874
    assert tables["train"].data["migration_code_change_in_msa"].isna().sum() == 99_696


def test_unknown_subset(tmp_path):
    with pytest.raises(ValueError, match="one of train, test, all, got 'validation'"):
        fetch_census_income(subset="validation", data_home=tmp_path)
