"""What the questions about the defaults change is what they say."""

import numpy as np
import pandas as pd

from benchmarks.defaults._neighbours import make_rows_of_neighbours


def test_rows_of_neighbours_stay_in_their_cluster():
    rng = np.random.RandomState(0)
    far = np.repeat([0, 100], 40)
    X = pd.DataFrame(
        {
            "number": far + rng.normal(size=80),
            "missing": np.where(np.arange(80) % 7, far + rng.normal(size=80), np.nan),
            "colour": pd.Categorical(np.where(far, "red", "blue")),
        }
    )
    made, base = make_rows_of_neighbours(X, 300, np.random.RandomState(1))
    assert made.dtypes.equals(X.dtypes)
    assert (made["colour"].to_numpy() == X["colour"].to_numpy()[base]).all()
    assert ((made["number"] > 50).to_numpy() == (far[base] > 0)).all()
    assert made["number"].isin(X["number"]).all()
    # Each column has its own draw.
    other = made["number"].to_numpy() != X["number"].to_numpy()[base]
    also = made["missing"].fillna(-1).to_numpy() != X["missing"].fillna(-1).to_numpy()[base]
    assert 0.5 < other.mean() < 1
    assert (other & ~also).any()
    assert (also & ~other).any()
