"""Converters of ensembles whose estimators vote: skl2onnx takes the most probable class for the
label, and fails on some weights, on float64 inputs and on strings as labels.
"""

from __future__ import annotations

import copy
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import AdaBoostClassifier, VotingClassifier, VotingRegressor
from sklearn.multiclass import OneVsOneClassifier

from skmode.onnx._skl2onnx.models.nested import Combination
from skmode.onnx._skl2onnx.models.outputs import has_nocl, infer_classifier
from skmode.onnx._skl2onnx.replacements import original_converter, replace_converter


def replace_voting() -> None:
    """Replace skl2onnx's converters of ensembles that vote."""
    replace_converter("SklearnVotingClassifier", VotingClassifier, None, _convert_voting)
    replace_converter("SklearnVotingRegressor", VotingRegressor, None, _convert_voting)
    replace_converter(
        "SklearnAdaBoostClassifier", AdaBoostClassifier, infer_classifier, _convert_ada_boost
    )
    replace_converter(
        "SklearnOneVsOneClassifier", OneVsOneClassifier, infer_classifier, _convert_one_vs_one
    )


def _weights(model: Any) -> NDArray[Any]:
    """Get the weights of the estimators that are not dropped."""
    if model.weights is None:
        return np.ones(len(model.estimators_))
    pairs = zip(model.estimators, model.weights, strict=True)
    return np.asarray([weight for (_, part), weight in pairs if part != "drop"])


def _convert_hard_voting(scope: Any, operator: Any, container: Any) -> None:
    """Count labels; skl2onnx takes the most probable class, but a threshold may choose another."""
    model = operator.raw_operator
    combination = Combination(scope, operator, container)
    graph, weights = combination.graph, _weights(model)
    votes = []
    for estimator, weight in zip(model.estimators_, weights, strict=True):
        position, _ = combination.add_classifier(estimator)
        # Estimators are fitted on positions in the classes.
        table = np.eye(len(model.classes_))[np.asarray(estimator.classes_, dtype=np.int64)]
        shares = graph.constant(table * weight / weights.sum(), "shares", np.float64)
        votes.append(graph.add("Gather", [shares, position], "vote"))
    total = graph.add("Sum", votes, "votes")
    choice = graph.add("ArgMax", [total], "choice", axis=1, keepdims=0)
    combination.finish_classifier(choice, total, nocl=False)


def _convert_voting(scope: Any, operator: Any, container: Any) -> None:
    """Convert a copy that suits skl2onnx: weights as an array, without dropped estimators, and
    `flatten_transform`, whose default it does not support, turned off; it affects only `transform`.
    """
    model = copy.copy(operator.raw_operator)
    if isinstance(model, VotingClassifier):
        if has_nocl(operator):  # skl2onnx would not see it on the copy
            raise NotImplementedError(
                "Option nocl must be False for a VotingClassifier, got True: convert it without "
                "nocl, and look up the positions of the labels in classes_."
            )
        model.flatten_transform = False
        if model.voting == "hard":
            _convert_hard_voting(scope, operator, container)
            return
    if model.weights is not None:
        model.weights = _weights(model)
    alias = operator.type
    patched = operator.new_raw_operator(model, alias)
    original_converter(alias)(scope, patched, container)


def _convert_ada_boost(scope: Any, operator: Any, container: Any) -> None:
    """Let each estimator vote with its weight for the label that it predicts."""
    model = operator.raw_operator
    combination = Combination(scope, operator, container)
    graph, n_classes = combination.graph, len(model.classes_)
    numbers = graph.constant([np.arange(n_classes)], "classes")
    votes = []
    for estimator, weight in zip(model.estimators_, model.estimator_weights_, strict=False):
        position, _ = combination.add_classifier(estimator)
        position = graph.add("Unsqueeze", [position, graph.constant([1], "axis")], "position")
        chosen = graph.add("Equal", [position, numbers], "chosen")
        vote, other = (
            graph.constant(share, "vote", np.float64)
            for share in (weight, -weight / (n_classes - 1))
        )
        votes.append(graph.add("Where", [chosen, vote, other], "vote"))
    total = graph.constant(np.sum(model.estimator_weights_), "weights", np.float64)
    decision = graph.add("Div", [graph.add("Sum", votes, "votes"), total], "decision")
    position = graph.add("ArgMax", [decision], "choice", axis=1, keepdims=0)
    degrees = graph.constant(n_classes - 1, "degrees", np.float64)
    scaled = graph.add("Div", [decision, degrees], "scaled")
    probabilities = graph.add("Softmax", [scaled], "probabilities", axis=1)
    combination.finish_classifier(position, probabilities, has_nocl(operator))


def _convert_one_vs_one(scope: Any, operator: Any, container: Any) -> None:
    """Count votes, and add less than half a vote for the confidence; there are no probabilities."""
    model = operator.raw_operator
    combination = Combination(scope, operator, container)
    graph, n_classes = combination.graph, len(model.classes_)
    votes, confidences = [], []
    pairs = combinations(range(n_classes), 2)
    for estimator, (first, second) in zip(model.estimators_, pairs, strict=True):
        position, probabilities = combination.add_classifier(estimator)
        rows = np.eye(n_classes)[[first, second]]
        table = graph.constant(rows, "votes", np.float64)
        votes.append(graph.add("Gather", [table, position], "vote"))
        column = graph.constant([1], "column")
        confidence = graph.add("Gather", [probabilities, column], "confidence", axis=1)
        direction = graph.constant(rows[1:] - rows[:1], "direction", np.float64)
        confidences.append(graph.add("Mul", [confidence, direction], "confidence"))
    confidence = graph.add("Sum", confidences, "confidences")
    one, three = (graph.constant(number, "number", np.float64) for number in (1, 3))
    size = graph.add("Add", [graph.add("Abs", [confidence], "size"), one], "size")
    share = graph.add("Div", [confidence, graph.add("Mul", [size, three], "size")], "share")
    decision = graph.add("Add", [graph.add("Sum", votes, "votes"), share], "decision")
    position = graph.add("ArgMax", [decision], "choice", axis=1, keepdims=0)
    combination.finish_classifier(position, decision, has_nocl(operator))
