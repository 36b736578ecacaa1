"""Which columns of a dataset are targets and weights, and what `fit` refuses beside a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from skmode._common.batches import BatchSource
from skmode._estimators.rows.teaching import described


class Names(NamedTuple):
    """Names of columns.

    Attributes
    ----------
    target : list of str
        The targets.
    single : bool
        Whether `target` was a name, not a list of names.
    weight : list of str
        The name of the weights, or nothing.
    """

    target: list[str]
    single: bool
    weight: list[str]

    def features(self, source: BatchSource) -> list[str]:
        """All other columns."""
        return [name for name in source.types if name not in (*self.target, *self.weight)]


def read_names(source: BatchSource, y: Any, sample_weight: Any, target: Any) -> Names:
    """Check the names of the columns that a user gave."""
    if y is not None:
        raise ValueError(
            "The targets of a dataset are one of its columns, which target names, got y of type "
            f"{type(y).__name__}: pass target={y if isinstance(y, str) else 'label'!r} and leave "
            "out y."
        )
    if target is None:
        raise ValueError(
            "A dataset needs the name of the column that holds the targets, got target=None: pass "
            f"target=, one of {list(source.types)[:20]}."
        )
    names = [target] if isinstance(target, str) or not np.iterable(target) else list(target)
    strings = all(isinstance(name, str) for name in names)
    if not names or not strings or len(set(names)) < len(names):
        raise ValueError(
            "target must name a column, or be a list of different names, got "
            f"{target!r}: the dataset has "
            f"{list(source.types)[:20]}."
        )
    source.check_names(names, "target")
    if sample_weight is not None and not isinstance(sample_weight, str):
        raise TypeError(
            "With a dataset, sample_weight names the column of the weights, got "
            f"{type(sample_weight).__name__}: write the weights into the dataset, and pass "
            'sample_weight="weight".'
        )
    weight = [] if sample_weight is None else [sample_weight]
    source.check_names(weight, "sample_weight")
    if set(weight) & set(names):
        raise ValueError(
            f"target and sample_weight must be two columns, got {target!r} for both: name others."
        )
    return Names(names, isinstance(target, str), weight)


def refuse_unread(parameters: Mapping[str, Any], passed: Mapping[str, Any]) -> None:
    """Raise for parameters and arguments that need all rows in memory."""
    reasons = {
        "groups": "validation rows are drawn at random",
        "soft_targets": "a teacher's predictions would have to be read in step",
        "soft_targets_val": "there are no soft_targets",
        "X_unlabeled": "there is no teacher",
    }
    for name, reason in reasons.items():
        if passed.get(name) is not None:
            raise ValueError(
                f"{name} must be left out with a dataset, because {reason}, got "
                f"{type(passed[name]).__name__}: leave it out, or pass rows in memory."
            )
    if parameters["teacher"] is not None:
        raise ValueError(
            "teacher must be None with a dataset, because a teacher predicts all rows at once, got "
            f"{described(parameters['teacher'])}: set teacher=None, or pass as many rows as memory "
            "holds."
        )
    if parameters.get("text_features") is not None:
        raise ValueError(
            "text_features must be None with a dataset, because tokens are learned from all texts "
            f"at once, got {parameters['text_features']!r}: leave the columns of texts out, or "
            "make numbers of them before."
        )
    if parameters.get("image_features") is not None:
        raise ValueError(
            "image_features must be None with a dataset, whose rows are encoded as numbers and "
            f"categories, got {parameters['image_features']!r}: leave the columns of images out, "
            "or pass as many rows as memory holds."
        )
    if not isinstance(parameters["validation_fraction"], Real):
        raise ValueError(
            "validation_fraction must be a number with a dataset, whose rows have no positions, "
            f"got {parameters['validation_fraction']!r}: pass a number, or validation rows in "
            "memory as X_val and y_val."
        )


def refuse_names(target: Any, checkpoint: Any = None) -> None:
    """Raise if rows in memory come with arguments that belong to datasets."""
    for name, value in (("target", target), ("checkpoint", checkpoint)):
        if value is not None:
            raise ValueError(
                f"{name} is for a dataset, got {name}={value!r} and rows in memory: leave it out, "
                "or pass a pyarrow.dataset.Dataset as X, which pyarrow.dataset.dataset('folder') "
                "opens, or a function that opens record batches."
            )
