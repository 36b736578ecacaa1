import dataclasses

import numpy as np
import pytest

from skmode_deploy import bundle
from skmode_deploy.running.predictor import Prediction
from skmode_deploy.running.tables.chunks import ReadOptions
from skmode_deploy.running.tables.columns import output_columns, output_names, select_columns
from skmode_deploy.running.tables.errors import InputError


@pytest.mark.parametrize(
    ("names", "options", "model", "kept"),
    [
        (["age", "city", "plan"], {}, (0, 1, 2), ()),
        (["plan", "age", "city"], {"keep": ("age",)}, (1, 2, 0), (1,)),
        (["id", "plan", "age", "city"], {"keep": ("id",)}, (2, 3, 1), (0,)),
        (["x", "plan", "age", "city"], {"ignore_extra": True}, (2, 3, 1), ()),
        (["id", "a", "b", "c"], {"by_position": True, "keep": ("id",)}, (1, 2, 3), (0,)),
    ],
)
def test_columns_are_found(names, options, model, kept, table_bundle):
    selection = select_columns(names, bundle.read(table_bundle), ReadOptions(**options))
    assert (selection.model, selection.kept) == (model, kept)


def test_extra_columns_by_position(table_bundle):
    options = ReadOptions(by_position=True)
    with pytest.raises(InputError, match="got 'd' as well: pass --ignore-extra"):
        select_columns(["a", "b", "c", "d"], bundle.read(table_bundle), options)


def test_predictions_as_columns(table_bundle, make_regressor):
    manifest = bundle.read(table_bundle)
    probabilities = [f"probability_{label}" for label in (10, 20, 30, 40)]
    assert output_names(manifest) == ["prediction", *probabilities, "expert", "gate_probability"]
    manifest = bundle.read(make_regressor())
    assert output_names(manifest) == ["prediction", "expert", "gate_probability"]
    manifest = dataclasses.replace(manifest, n_outputs=2)
    assert output_names(manifest)[:2] == ["prediction_0", "prediction_1"]
    answer = Prediction(np.array([[1, 2], [3, 4]]), None, np.array([0, 1]), np.array([0.5, 1]))
    columns = [column.tolist() for column in output_columns(answer)]
    assert columns == [[1, 3], [2, 4], [0, 1], [0.5, 1]]
