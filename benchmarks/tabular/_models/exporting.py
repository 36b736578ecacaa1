"""The models as ONNX graphs, through whatever their libraries offer for it."""

from __future__ import annotations

import copy
import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnxruntime
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline, make_pipeline

from benchmarks._timing import open_session, to_inputs
from benchmarks.tabular._models.ours import Ensemble

# What the graphs call their values or probabilities.
OUTPUTS = ("probabilities", "variable", "predictions")
# The newest operators that onnxmltools writes.
OPSET = 15
# Who writes the graphs of libraries that do not themselves.
CONVERTERS = {"sklearn": "skl2onnx", "lightgbm": "onnxmltools", "xgboost": "onnxmltools"}

Array = NDArray[Any]


class NotExported(Exception):
    """There is no graph of this model on this table."""


@dataclass(frozen=True)
class Exported:
    """A graph that answers.

    Attributes
    ----------
    session : InferenceSession
        With one thread.
    n_bytes : int
        Size of the file.
    """

    session: onnxruntime.InferenceSession
    n_bytes: int

    def prepare(self, X: pd.DataFrame) -> dict[str, Any]:
        """Return rows as the graphs read them: an input per column, or all numbers in one."""
        names = [tensor.name for tensor in self.session.get_inputs()]
        if len(names) == 1 and names[0] not in X:
            return {names[0]: X.to_numpy(np.float32)}
        if not set(names) <= set(X):  # skl2onnx allows no blanks and brackets in names
            X = X.set_axis(names, axis=1)
        return to_inputs(X, self.session)

    def runner(self) -> Callable[[dict[str, Any]], Array]:
        """Return what asks the graph for values."""
        names = [output.name for output in self.session.get_outputs()]
        outputs = [next(name for name in OUTPUTS if name in names)]
        return lambda inputs: self.session.run(outputs, inputs)[0]


def export(module: str, model: Any, X: Any) -> Exported:
    """Write and open the graph of a fitted model.

    Parameters
    ----------
    module : str
        The library that it comes from.
    model : estimator
        Fitted.
    X : DataFrame or ndarray
        Its training rows, which tell the types of the columns.

    Returns
    -------
    exported : Exported
        What answers.

    Raises
    ------
    NotExported
        If the library has no export, or none of such a table.
    """
    if module not in EXPORTS:
        raise NotExported(f"{module} exports no ONNX")
    with tempfile.TemporaryDirectory() as folder:
        path = EXPORTS[module](model, X, Path(folder))
        return Exported(open_session(path), path.stat().st_size)


def _export_ours(model: Any, X: Any, folder: Path) -> Path:
    # Slow to import, and workers that fit peers do without.
    from skmode.onnx import export as export_bundle

    members = model.estimators_ if isinstance(model, Ensemble) else [model]
    for i, member in enumerate(members):
        routing = "top_expert" if member.inference == "top_expert" else "mixture"
        export_bundle(member, folder / str(i), X=X, routing=routing)
    paths = [folder / str(i) / "model.onnx" for i in range(len(members))]
    return paths[0] if len(paths) == 1 else _write(_average(list(map(onnx.load, paths))), folder)


def _average(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Make one graph that averages the answers of several: faster than one after the other."""
    first = models[0]
    name = next(output.name for output in first.graph.output if output.name in OUTPUTS)
    nodes, weights = [], []
    for i, model in enumerate(models):
        part = onnx.compose.add_prefix(model, f"network_{i}/").graph
        for outer, inner in zip(first.graph.input, part.input, strict=True):
            nodes.append(onnx.helper.make_node("Identity", [outer.name], [inner.name]))
        nodes += part.node
        weights += part.initializer
    each = [f"network_{i}/{name}" for i in range(len(models))]
    nodes.append(onnx.helper.make_node("Mean", each, [name]))
    output = next(output for output in first.graph.output if output.name == name)
    graph = onnx.helper.make_graph(nodes, "average", first.graph.input, [output], weights)
    return onnx.helper.make_model(
        graph,
        opset_imports=first.opset_import,
        functions=first.functions,
        ir_version=first.ir_version,
    )


def _export_sklearn(model: Any, X: pd.DataFrame, folder: Path) -> Path:
    """Trees without encoders read numbers alone; pipelines read columns, if some are categories."""
    skl2onnx = importlib.import_module("skl2onnx")
    types = importlib.import_module("skl2onnx.common.data_types")
    initial = [("X", types.FloatTensorType([None, X.shape[1]]))]
    if not isinstance(model, Pipeline):
        _check_numbers_alone(X, "skl2onnx")
    elif X.isna().any(axis=None):
        raise NotExported("skl2onnx exports no SimpleImputer with indicators")
    else:
        model = _with_plain_target(model)
        if numbers_alone(X):
            (_, numbers, _), *_ = model[0].transformers_
            model = make_pipeline(numbers, *model[1:])
        else:
            categories = set(X.select_dtypes("category"))
            text, number = types.StringTensorType([None, 1]), types.FloatTensorType([None, 1])
            initial = [(name, text if name in categories else number) for name in X]
    options = {"zipmap": False} if is_classifier(model) else None
    graph = skl2onnx.to_onnx(model, initial_types=initial, options=options, target_opset=OPSET)
    return _write(graph, folder)


def _with_plain_target(model: Pipeline) -> Pipeline:
    """Let the last layer of a network with a scaled target scale back: skl2onnx does not."""
    scaled = model[-1]
    if not isinstance(scaled, TransformedTargetRegressor):
        return model
    network = copy.deepcopy(scaled.regressor_)
    mean, scale = scaled.transformer_.mean_, scaled.transformer_.scale_
    network.coefs_[-1] = network.coefs_[-1] * scale
    network.intercepts_[-1] = network.intercepts_[-1] * scale + mean
    return make_pipeline(*model[:-1], network)


def _export_lightgbm(model: Any, X: pd.DataFrame, folder: Path) -> Path:
    tools, initial = _onnxmltools(X)
    graph = tools.convert_lightgbm(model, initial_types=initial, zipmap=False, target_opset=OPSET)
    return _write(graph, folder)


def _export_xgboost(model: Any, X: pd.DataFrame, folder: Path) -> Path:
    tools, initial = _onnxmltools(X)
    model = copy.deepcopy(model)
    # The converter knows columns by their positions.
    model.get_booster().feature_names = [f"f{i}" for i in range(X.shape[1])]
    graph = tools.convert_xgboost(model, initial_types=initial, target_opset=OPSET)
    return _write(graph, folder)


def _onnxmltools(X: pd.DataFrame) -> tuple[Any, Any]:
    """Import the library; return it with the type of a matrix of the table's numbers."""
    _check_numbers_alone(X, "onnxmltools")
    types = importlib.import_module("onnxmltools.convert.common.data_types")
    tools = importlib.import_module("onnxmltools")
    return tools, [("X", types.FloatTensorType([None, X.shape[1]]))]


def _export_catboost(model: Any, X: pd.DataFrame, folder: Path) -> Path:
    _check_numbers_alone(X, "CatBoost")
    path = folder / "catboost.onnx"
    model[-1].save_model(str(path), format="onnx")
    return _write(_without_maps(onnx.load(path)), folder)


def _without_maps(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Replace a map per row by a matrix of probabilities, as other libraries write on request."""
    nodes, outputs = graph.graph.node, graph.graph.output
    maps = next((node for node in nodes if node.op_type == "ZipMap"), None)
    if maps is None:
        return graph
    trees = next(node for node in nodes if maps.input[0] in node.output)
    nodes.remove(maps)
    outputs.remove(next(output for output in outputs if output.name == maps.output[0]))
    trees.output[1] = "probabilities"
    kind = onnx.TensorProto.FLOAT
    outputs.append(onnx.helper.make_tensor_value_info("probabilities", kind, [None, None]))
    return graph


def numbers_alone(X: pd.DataFrame) -> bool:
    """Whether a table has no categories."""
    return not len(X.select_dtypes("category").columns)


def _check_numbers_alone(X: pd.DataFrame, library: str) -> None:
    if not numbers_alone(X):
        raise NotExported(f"{library} exports no trees that split on categories")


def _write(graph: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


EXPORTS: dict[str, Callable[[Any, Any, Path], Path]] = {
    "skmode": _export_ours,
    "sklearn": _export_sklearn,
    "lightgbm": _export_lightgbm,
    "xgboost": _export_xgboost,
    "catboost": _export_catboost,
}
