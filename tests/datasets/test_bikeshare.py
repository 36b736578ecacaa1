from skmode.datasets import fetch_bikeshare


def test_the_target_does_not_leak(data_home):
    bikeshare = fetch_bikeshare(data_home=data_home)
    assert bikeshare.data.shape == (8645, 12)
    assert not {"casual", "registered", "bikers"} & set(bikeshare.data.columns)
    assert (bikeshare.data.dtypes == "category").sum() == 2
    assert bikeshare.target.name == "bikers"
    assert bikeshare.target.min() == 1
